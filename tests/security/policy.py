"""docs/authorization.yaml as the tests read it: who may call what."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import yaml
from starlette.routing import compile_path

from tests.security.routes import Endpoint

FILE = Path(__file__).parents[2] / "docs" / "authorization.yaml"
ANYONE = "anyone"


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a name that is there twice; plain YAML would keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise ValueError(f"{FILE.name} says this twice: {', '.join(sorted(map(str, twice)))}")
        return super().construct_mapping(node, deep=deep)


@dataclass(frozen=True)
class ServicePolicy:
    """Who may call each route of one service, by the words of the file."""

    callers: Mapping[Endpoint, frozenset[str]]
    owned: frozenset[str]

    def match(self, method: str, path: str) -> Endpoint | None:
        """Return the route that answers a real path; of several the one that says most of it."""
        real = unquote(path)
        found = [each for each in self.callers if each.method == method and _pattern(each.path).match(real)]
        return min(found, key=lambda each: each.path.count("{"), default=None)

    def may(self, caller: str, endpoint: Endpoint) -> bool:
        """Say whether `caller` is on the list of a route."""
        return bool(self.callers[endpoint] & {caller, ANYONE})

    def is_open(self, endpoint: Endpoint) -> bool:
        """Say whether everybody may call a route."""
        return ANYONE in self.callers[endpoint]

    def is_owned(self, endpoint: Endpoint) -> bool:
        """Say whether the path names a thing that belongs to one institution."""
        return any("{" + name in endpoint.path for name in self.owned)

    @property
    def protected(self) -> list[Endpoint]:
        """Return the routes that want to know who is calling."""
        return [endpoint for endpoint in self.callers if not self.is_open(endpoint)]


@cache
def load_policy() -> Mapping[str, ServicePolicy]:
    """Return the policy of each service."""
    document = yaml.load(FILE.read_text(), _UniqueKeys)  # noqa: S506 - a SafeLoader
    groups: Mapping[str, list[str]] = document["groups"]
    owned = frozenset(document["owned"])
    return {
        name: ServicePolicy(
            {
                Endpoint(*line.split(" ")): _flat(who, groups)
                for line, who in {**document["every_service"], **lines}.items()
            },
            owned,
        )
        for name, lines in document["services"].items()
    }


def _flat(who: str | Iterable[str], groups: Mapping[str, list[str]]) -> frozenset[str]:
    words = [who] if isinstance(who, str) else who
    return frozenset(word for each in words for word in groups.get(each, [each]))


@cache
def _pattern(path: str) -> Any:  # noqa: ANN401 - a compiled pattern
    return compile_path(path)[0]
