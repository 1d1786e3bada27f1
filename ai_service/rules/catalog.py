"""Reads rules that are kept as data: the starter rules that every institution begins with, or a file of one's own."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ai_service.features.definitions import FEATURE_NAMES
from ai_service.rules.engine import Rule, Ruleset
from ai_service.rules.variables import features_in
from common.contracts.decisions import RuleAction, RuleMode

MAX_FILE_BYTES = 1 << 20


class RulesRefusedError(Exception):
    """The file of rules cannot be read or does not hold rules; the message says where."""


@dataclass(frozen=True)
class RuleCatalog:
    """Rules as they were written down, not compiled yet."""

    version: int
    rules: tuple[Rule, ...]

    @property
    def feature_names(self) -> set[str]:
        """Return the features that the conditions read."""
        return features_in(rule.condition for rule in self.rules).intersection(FEATURE_NAMES)

    def compiled(self, *, feature_names: Sequence[str] = FEATURE_NAMES) -> Ruleset:
        """Return the ruleset for vectors in the order of `feature_names`; raises `RuleInvalidError`."""
        return Ruleset(self.rules, version=self.version, feature_names=feature_names)


class _WrittenRule(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=False)

    rule_id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    action: RuleAction
    condition: Annotated[str, Field(min_length=1, max_length=4000)]
    message: Annotated[str, Field(min_length=1, max_length=500)]
    score_modifier: Annotated[float, Field(ge=-100, le=100)] = 0.0
    alert: bool = False
    mode: RuleMode = RuleMode.LIVE


class _WrittenRules(BaseModel):
    model_config = ConfigDict(extra="forbid")

    version: Annotated[int, Field(ge=1)]
    rules: tuple[_WrittenRule, ...]


def starter_catalog() -> RuleCatalog:
    """Return the starter rules."""
    return _parse(files("ai_service.rules").joinpath("catalog.yaml").read_text(encoding="utf-8"))


def starter_ruleset() -> Ruleset:
    """Return the starter rules, compiled for all features."""
    return starter_catalog().compiled()


def read_catalog(path: Path | None) -> RuleCatalog:
    """Return the rules of the file at `path`, or the starter rules; raises `RulesRefusedError`."""
    if path is None:
        return starter_catalog()
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise RulesRefusedError(f"{path} is larger than {MAX_FILE_BYTES} bytes")
        return _parse(content.decode())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RulesRefusedError(f"{path} cannot be read: {error}") from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise RulesRefusedError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _parse(text: str) -> RuleCatalog:
    written = _WrittenRules.model_validate(yaml.safe_load(text))
    ids = [rule.rule_id for rule in written.rules]
    if twice := {each for each in ids if ids.count(each) > 1}:
        raise RulesRefusedError(f"a rule_id is used twice: {sorted(twice)}")
    return RuleCatalog(
        written.version, tuple(Rule(**dict(rule), version=written.version) for rule in written.rules)
    )
