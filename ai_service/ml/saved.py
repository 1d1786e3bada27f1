"""The saved models one may choose from."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ai_service.ml.predictor import FraudModel
from ai_service.ml.registry import MANIFEST, ModelRefusedError, load_model, read_manifest
from common.canonical import sha256_hex


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """One saved model, to the bit: the hash is its manifest's, which holds those of its other files."""

    name: str
    version: str
    manifest_sha256: str


def saved_models(models_dir: Path) -> list[ModelChoice]:
    """Return every model in the folder that has a readable manifest, by name and version."""
    found = []
    for path in sorted(models_dir.glob(f"[!.]*/[!.]*/{MANIFEST}")):
        with suppress(ModelRefusedError):
            manifest, content = read_manifest(path.parent)
            found.append(ModelChoice(manifest.name, manifest.version, sha256_hex(content)))
    return found


def load_chosen(models_dir: Path, choice: ModelChoice) -> FraudModel:
    """Load the model that was chosen, and no other of its name; raises `ModelRefusedError`."""
    return load_model(models_dir / choice.name / choice.version, manifest_sha256=choice.manifest_sha256)
