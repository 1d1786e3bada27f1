"""Reads the starter rules that every institution begins with."""

from importlib.resources import files
from typing import Any

import yaml

from ai_service.rules.engine import Rule, Ruleset
from common.contracts.decisions import RuleAction


def starter_ruleset() -> Ruleset:
    """Return ruleset version 1; raises `RuleInvalidError` when a condition does not compile."""
    document = yaml.safe_load(files("ai_service.rules").joinpath("catalog.yaml").read_text(encoding="utf-8"))
    version = int(document["version"])
    return Ruleset([_rule(entry, version) for entry in document["rules"]], version=version)


def _rule(entry: dict[str, Any], version: int) -> Rule:
    return Rule(**{**entry, "action": RuleAction(entry["action"])}, version=version)
