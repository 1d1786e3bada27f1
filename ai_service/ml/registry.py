"""Saved models: data, never code. What does not match its manifest to the bit is refused.

<models_dir>/current.json                      names the champion and the SHA-256 of its manifest
<models_dir>/<name>/<version>/manifest.json    what the model is, and the SHA-256 of the files beside it
<models_dir>/<name>/<version>/arrays.npz       the trees, as `trees.TreeArrays` describes them
<models_dir>/<name>/<version>/estimator.joblib the scikit-learn estimator, for training and bench only
"""

import io
import os
import shutil
import zipfile
from collections.abc import Sequence
from math import inf
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from ai_service.ml.calibration import Calibration, ScoreBin
from ai_service.ml.predictor import FraudModel
from ai_service.ml.trees import DTYPES, InvalidTreesError, TreeArrays, check_trees
from common.canonical import sha256_hex
from common.contracts.fields import Timestamp

SCHEMA_VERSION = 1
MAX_MANIFEST_BYTES = 4 * 2**20
MAX_ARRAYS_BYTES = 256 * 2**20
CURRENT, MANIFEST, ARRAYS, ESTIMATOR = "current.json", "manifest.json", "arrays.npz", "estimator.joblib"

Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
"""A name that is also a safe folder name."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class ModelRefusedError(Exception):
    """The saved model is missing, damaged, or not for this program; the message says which and what to do."""


class _Saved(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SavedBin(_Saved):
    """A bin of calibration rows; `lower` is null in the first one, which has no lower end."""

    lower: Finite | None
    count: int
    frauds: int
    mean_probability: Finite


class SavedCalibration(_Saved):
    """fraud_probability = sigmoid(slope * raw + intercept), fitted on rows later than the training rows."""

    method: Literal["sigmoid"] = "sigmoid"
    slope: Finite
    intercept: Finite
    bins: tuple[SavedBin, ...]


class Manifest(_Saved):
    """What a saved model is."""

    schema_version: int
    name: Slug
    version: Slug
    created_at: Timestamp
    trained_on: str
    simulated_only: bool
    note: str
    seed: int
    features: tuple[str, ...] = Field(min_length=1)
    library_versions: dict[str, str]
    metrics: dict[str, JsonValue]
    calibration: SavedCalibration
    arrays_sha256: Sha256
    estimator_sha256: Sha256


class Current(_Saved):
    """Which model is the champion."""

    schema_version: int
    name: Slug
    version: Slug
    manifest_sha256: Sha256


def arrays_bytes(trees: TreeArrays) -> bytes:
    """Return the content of `arrays.npz`."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **trees.as_dict())
    return buffer.getvalue()


def to_saved(calibration: Calibration) -> SavedCalibration:
    """Return a calibration as the manifest holds it."""
    return SavedCalibration(
        slope=calibration.slope,
        intercept=calibration.intercept,
        bins=tuple(
            SavedBin(
                lower=None if found.lower == -inf else found.lower,
                count=found.count,
                frauds=found.frauds,
                mean_probability=found.mean_probability,
            )
            for found in calibration.bins
        ),
    )


def save_model(models_dir: Path, manifest: Manifest, *, arrays: bytes, estimator: bytes) -> Path:
    """Write a model's folder, all of it or nothing, and return it; raises `FileExistsError` if it is there already."""
    folder = models_dir / manifest.name / manifest.version
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    files = {ARRAYS: arrays, ESTIMATOR: estimator, MANIFEST: manifest.model_dump_json(indent=2).encode()}
    for name, content in files.items():
        _write_durably(unfinished / name, content)
    _sync_folder(unfinished)
    try:
        unfinished.rename(folder)
    except OSError:
        shutil.rmtree(unfinished)
        raise FileExistsError(f"{manifest.name} {manifest.version} is already saved") from None
    _sync_folder(folder.parent)
    return folder


def make_current(models_dir: Path, folder: Path) -> None:
    """Make the model saved in `folder` the champion, in one step; raises `ModelRefusedError`."""
    manifest, content = read_manifest(folder)
    current = Current(
        schema_version=SCHEMA_VERSION,
        name=manifest.name,
        version=manifest.version,
        manifest_sha256=sha256_hex(content),
    )
    unfinished = models_dir / f".{CURRENT}.{os.getpid()}"
    _write_durably(unfinished, current.model_dump_json(indent=2).encode())
    unfinished.replace(models_dir / CURRENT)
    _sync_folder(models_dir)


def load_current(models_dir: Path, *, expected_features: Sequence[str] | None = None) -> FraudModel:
    """Load the champion; raises `ModelRefusedError`."""
    path = models_dir / CURRENT
    try:
        current = Current.model_validate_json(_read(path, limit=MAX_MANIFEST_BYTES))
    except ValidationError as error:
        raise ModelRefusedError(f"{path} cannot be read: {_where(error)}") from None
    if current.schema_version != SCHEMA_VERSION:
        raise ModelRefusedError(f"{path} has schema version {current.schema_version}, not {SCHEMA_VERSION}")
    folder = models_dir / current.name / current.version
    return load_model(folder, expected_features=expected_features, manifest_sha256=current.manifest_sha256)


def load_model(
    folder: Path, *, expected_features: Sequence[str] | None = None, manifest_sha256: str | None = None
) -> FraudModel:
    """Load the model saved in `folder` after checking all of it; raises `ModelRefusedError`."""
    manifest, content = read_manifest(folder)
    if manifest_sha256 is not None and sha256_hex(content) != manifest_sha256:
        raise ModelRefusedError(f"{folder / MANIFEST} is not the one that was chosen: its hash differs")
    if expected_features is not None:
        _check_features(folder, manifest.features, tuple(expected_features))
    trees = _read_trees(folder / ARRAYS, manifest)
    try:
        calibration = _calibration(manifest.calibration)
    except ValueError as error:
        raise ModelRefusedError(f"{folder / MANIFEST} has a wrong calibration: {error}") from None
    return FraudModel(
        name=manifest.name,
        version=manifest.version,
        feature_names=manifest.features,
        simulated_only=manifest.simulated_only,
        trees=trees,
        calibration=calibration,
    )


def read_estimator(folder: Path) -> bytes:
    """Return the pickled estimator if it is the one the manifest names; raises `ModelRefusedError`.

    Unpickling runs code: only training and bench may do it, and only with bytes from here.
    """
    manifest, _ = read_manifest(folder)
    return _read_matching(folder / ESTIMATOR, manifest.estimator_sha256)


def read_manifest(folder: Path) -> tuple[Manifest, bytes]:
    """Return the manifest in `folder` and its bytes; raises `ModelRefusedError`."""
    path = folder / MANIFEST
    content = _read(path, limit=MAX_MANIFEST_BYTES)
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        raise ModelRefusedError(f"{path} cannot be read: {_where(error)}") from None
    if manifest.schema_version != SCHEMA_VERSION:
        raise ModelRefusedError(f"{path} has schema version {manifest.schema_version}, not {SCHEMA_VERSION}")
    if (folder.parent.name, folder.name) != (manifest.name, manifest.version):
        raise ModelRefusedError(f"{path} is of {manifest.name} {manifest.version}, which is not its folder")
    if len(set(manifest.features)) != len(manifest.features):
        raise ModelRefusedError(f"{path} names a feature twice")
    return manifest, content


def _check_features(folder: Path, found: tuple[str, ...], expected: tuple[str, ...]) -> None:
    if found == expected:
        return
    missing, extra = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    detail = f"missing {missing}, unknown {extra}" if missing or extra else "the order differs"
    raise ModelRefusedError(f"{folder} was trained on other features ({detail}): train again")


def _read_trees(path: Path, manifest: Manifest) -> TreeArrays:
    content = _read_matching(path, manifest.arrays_sha256)
    try:
        trees = TreeArrays(**_arrays(content))
        check_trees(trees, n_features=len(manifest.features))
    except (InvalidTreesError, ValueError, TypeError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ModelRefusedError(f"{path} does not hold trees: {error}") from None
    return trees


def _arrays(content: bytes) -> dict[str, NDArray[Any]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
    if sorted(sizes) != sorted(f"{name}.npy" for name in DTYPES):
        raise ValueError("the archive has other arrays than expected")
    if sum(sizes.values()) > MAX_ARRAYS_BYTES:
        raise ValueError("the arrays are too large")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {name: np.ascontiguousarray(arrays[name]) for name in DTYPES}


def _calibration(saved: SavedCalibration) -> Calibration:
    bins = tuple(
        ScoreBin(
            -inf if found.lower is None else found.lower, found.count, found.frauds, found.mean_probability
        )
        for found in saved.bins
    )
    return Calibration(saved.slope, saved.intercept, bins)


def _read_matching(path: Path, sha256: str) -> bytes:
    content = _read(path, limit=MAX_ARRAYS_BYTES)
    if sha256_hex(content) != sha256:
        raise ModelRefusedError(f"{path} was changed after it was saved: its hash differs from the manifest")
    return content


def _read(path: Path, *, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise ModelRefusedError(
            f"{path} cannot be read ({error.strerror}); train a model with: python -m ai_service.ml.training"
        ) from None
    if len(content) > limit:
        raise ModelRefusedError(f"{path} is larger than {limit} bytes")
    return content


def _where(error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}"


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
