"""The published API: writes each service's OpenAPI document, and finds what would break a caller of the old one.

`python -m tests.openapi` (make openapi) writes docs/openapi/. A breaking change under /v1 is refused by the tests;
an addition only has to be written down by running that command.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from ai_service.main import app as ai
from alert_service.main import app as alerts
from external_apis_services.main import app as external
from log_service.main import app as logs
from user_service.main import app as users

FOLDER = Path(__file__).parents[1] / "docs" / "openapi"
APPS: dict[str, FastAPI] = {
    "ai_service": ai,
    "user_service": users,
    "alert_service": alerts,
    "log_service": logs,
    "external_apis_services": external,
}
Json = dict[str, Any]


def document(name: str) -> str:
    """Return a service's OpenAPI document as it is written down."""
    return json.dumps(APPS[name].openapi(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def breaking_changes(old: Json, new: Json) -> list[str]:
    """Return, in words, each change under /v1 that a caller of `old` could notice."""
    return list(_paths(old, new))


def _paths(old: Json, new: Json) -> Iterator[str]:
    for path, operations in old["paths"].items():
        if not path.startswith("/v1"):
            continue
        for method, operation in operations.items():
            where = f"{method.upper()} {path}"
            found = new["paths"].get(path, {}).get(method)
            if found is None:
                yield f"{where} is gone"
                continue
            yield from _parameters(where, operation, found)
            yield from _request(where, operation, found, old, new)
            yield from _responses(where, operation, found, old, new)


def _parameters(where: str, old: Json, new: Json) -> Iterator[str]:
    before = {(each["in"], each["name"]): each for each in old.get("parameters", [])}
    after = {(each["in"], each["name"]): each for each in new.get("parameters", [])}
    for key in before.keys() - after.keys():
        yield f"{where}: parameter {key[1]} is gone"
    for key, parameter in after.items():
        if parameter.get("required") and not before.get(key, {}).get("required"):
            yield f"{where}: parameter {key[1]} is required now"


def _request(where: str, old: Json, new: Json, old_root: Json, new_root: Json) -> Iterator[str]:
    before, after = _body_schema(old.get("requestBody")), _body_schema(new.get("requestBody"))
    if before is None and after is not None:
        yield f"{where}: a body is required now"
    if before is not None and after is not None:
        yield from _narrowed(f"{where} request", _Schema(before, old_root), _Schema(after, new_root))


def _responses(where: str, old: Json, new: Json, old_root: Json, new_root: Json) -> Iterator[str]:
    for status, response in old["responses"].items():
        if not status.startswith("2"):
            continue
        found = new["responses"].get(status)
        if found is None:
            yield f"{where}: status {status} is gone"
            continue
        before, after = _body_schema(response), _body_schema(found)
        if before is not None and after is not None:
            yield from _widened(f"{where} {status}", _Schema(before, old_root), _Schema(after, new_root))


def _body_schema(holder: Json | None) -> Json | None:
    content: Json = ((holder or {}).get("content") or {}).get("application/json") or {}
    return content.get("schema")


class _Schema:
    """A schema in its document, with references followed."""

    def __init__(self, schema: Json, root: Json) -> None:
        while "$ref" in schema:
            schema = root["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        self.schema = schema
        self.root = root

    @property
    def properties(self) -> dict[str, "_Schema"]:
        return {name: _Schema(each, self.root) for name, each in self.schema.get("properties", {}).items()}

    @property
    def required(self) -> set[str]:
        return set(self.schema.get("required", []))

    @property
    def items(self) -> "_Schema | None":
        items = self.schema.get("items")
        return None if items is None else _Schema(items, self.root)

    @property
    def kinds(self) -> set[str]:
        """Return the types a value may have; alternatives together, `any` where none is named."""
        options = self.schema.get("anyOf") or self.schema.get("oneOf")
        if options:
            return set().union(*(_Schema(option, self.root).kinds for option in options))
        named = self.schema.get("type", "any")
        return set(named) if isinstance(named, list) else {named}

    @property
    def values(self) -> set[str] | None:
        """Return the values an enumeration allows."""
        found = self.schema.get("enum")
        return None if found is None else {str(value) for value in found}


def _narrowed(where: str, old: _Schema, new: _Schema) -> Iterator[str]:
    """Find what a caller may send no longer."""
    if lost := old.kinds - new.kinds:
        yield f"{where}: {', '.join(sorted(lost))} is not taken any more"
    if old.values is not None and new.values is not None and (gone := old.values - new.values):
        yield f"{where}: {', '.join(sorted(gone))} is not taken any more"
    for name in new.required - old.required:
        yield f"{where}.{name} is required now"
    for name, before in old.properties.items():
        after = new.properties.get(name)
        if after is None:
            yield f"{where}.{name} is not taken any more"
        else:
            yield from _narrowed(f"{where}.{name}", before, after)
    if old.items is not None and new.items is not None:
        yield from _narrowed(f"{where}[]", old.items, new.items)


def _widened(where: str, old: _Schema, new: _Schema) -> Iterator[str]:
    """Find what a caller may count on no longer."""
    if added := new.kinds - old.kinds:
        yield f"{where} may be {', '.join(sorted(added))} now"
    for name, before in old.properties.items():
        after = new.properties.get(name)
        if after is None:
            yield f"{where}.{name} is gone"
            continue
        if name in old.required and name not in new.required:
            yield f"{where}.{name} may be missing now"
        yield from _widened(f"{where}.{name}", before, after)
    if old.items is not None and new.items is not None:
        yield from _widened(f"{where}[]", old.items, new.items)


def write() -> None:
    """Write every document; raises `SystemExit` instead when a caller would notice."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in APPS:
        made, path = document(name), FOLDER / f"{name}.json"
        broken = breaking_changes(json.loads(path.read_text()), json.loads(made)) if path.exists() else []
        if broken:
            raise SystemExit(f"{name} would break its callers:\n  " + "\n  ".join(broken))
        path.write_text(made)


if __name__ == "__main__":
    write()
