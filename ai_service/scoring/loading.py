"""Loads what scores: the model, the rules, and the plan of the features that the two of them need."""

from dataclasses import dataclass
from pathlib import Path

from ai_service.features.definitions import FEATURE_NAMES, FeaturePlan, plan_features
from ai_service.ml.predictor import FraudModel
from ai_service.ml.registry import ModelRefusedError, load_current
from ai_service.ml.saved import ModelChoice, load_chosen
from ai_service.rules.catalog import RulesRefusedError, read_catalog
from ai_service.rules.engine import RuleInvalidError, Ruleset
from common.errors import StartupError


@dataclass(frozen=True)
class Scoring:
    """A model and rules that read vectors in the order of `features.names`."""

    features: FeaturePlan
    model: FraudModel
    rules: Ruleset


def load_scoring(models_dir: Path, rules_file: Path | None, choice: ModelChoice | None = None) -> Scoring:
    """Load the model that was chosen, or else the folder's own, and the rules.

    Raises `StartupError`, which says what to do.
    """
    model = _load_model(models_dir, choice)
    try:
        catalog = read_catalog(rules_file)
        plan = plan_features({*model.feature_names, *catalog.feature_names})
        return Scoring(plan, model.over(plan.names), catalog.compiled(feature_names=plan.names))
    except (RulesRefusedError, RuleInvalidError) as error:
        raise StartupError(f"The rules cannot be used: {error}") from error


def _load_model(models_dir: Path, choice: ModelChoice | None) -> FraudModel:
    try:
        model = load_current(models_dir) if choice is None else load_chosen(models_dir, choice)
    except ModelRefusedError as error:
        if choice is not None:
            raise StartupError(f"{error}. The model {choice.name} {choice.version} was chosen.") from error
        raise StartupError(f"{error}. `make model` trains one.") from error
    if unknown := set(model.feature_names).difference(FEATURE_NAMES):
        raise StartupError(
            f"The model {model.name} {model.version} was trained on features that do not exist {sorted(unknown)}: "
            "train again with `make model`"
        )
    return model
