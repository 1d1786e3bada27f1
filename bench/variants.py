"""LEAN and FULL: which features, model and rules the product runs with."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ai_service.features.definitions import FEATURE_NAMES
from ai_service.settings import AiSettings
from bench.models import TAKES_OTHER_MODELS, feature_names, lean_features, provide_model
from bench.rulesets import generated_rules, write_rules

LEAN, FULL = "LEAN", "FULL"
LEAN_SERVERS, LEAN_WORKERS = "LEAN_servers", "LEAN_servers_2_workers"  # on PostgreSQL and Valkey
FLOORS = {"floor": LEAN, "floor_servers": LEAN_SERVERS}  # by name: whose saving and telling it is
WORKERS = 2
LEAN_RULES, FULL_RULES = 10, 100


@dataclass(frozen=True)
class Variant:
    """One way to run the product."""

    name: str
    models_dir: Path
    model_folder: Path
    rules_file: Path
    rules: int

    @property
    def features(self) -> Sequence[str]:
        """Return the features that its model takes."""
        return feature_names(self.model_folder)

    @property
    def summary(self) -> str:
        """Say what it is."""
        rules = f"{self.rules} generated rules" if TAKES_OTHER_MODELS else "the starter rules"
        return f"{len(self.features)} features, {rules}"


def workers_can_be_chosen() -> bool:
    """Say whether ai_service has a setting for how many workers it runs."""
    return "workers" in AiSettings.model_fields


def provide_variant(name: str, home: Path) -> Variant:
    """Train the model of LEAN or FULL unless it is there, and write its rules; raises `BenchError`."""
    is_lean = name == LEAN and TAKES_OTHER_MODELS
    names = lean_features() if is_lean else FEATURE_NAMES
    rules = LEAN_RULES if name == LEAN else FULL_RULES
    models_dir = home / "models" / ("lean" if is_lean else "full")
    return Variant(
        name,
        models_dir,
        model_folder=provide_model(models_dir, names),
        rules_file=write_rules(home / "rules" / f"{name.lower()}.yaml", generated_rules(rules, names)),
        rules=rules,
    )
