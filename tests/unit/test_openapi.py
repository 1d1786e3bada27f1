import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.openapi import APPS, FOLDER, breaking_changes, document

Json = dict[str, Any]
OLD: Json = {
    "paths": {
        "/health": {"get": {"responses": {}}},
        "/v1/things": {
            "post": {
                "parameters": [{"in": "query", "name": "limit", "required": False}],
                "requestBody": {
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/In"}}}
                },
                "responses": {
                    "200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Out"}}}}
                },
            }
        },
    },
    "components": {
        "schemas": {
            "In": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"type": "string"},
                    "kind": {"type": "string", "enum": ["a", "b"]},
                    "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                },
            },
            "Out": {
                "type": "object",
                "required": ["id", "tags"],
                "properties": {
                    "id": {"type": "string"},
                    "tags": {"type": "array", "items": {"type": "string"}},
                },
            },
        }
    },
}


def taken(new: Json) -> Json:
    return new["components"]["schemas"]["In"]  # type: ignore[no-any-return]


def answered(new: Json) -> Json:
    return new["components"]["schemas"]["Out"]  # type: ignore[no-any-return]


def posted(new: Json) -> Json:
    return new["paths"]["/v1/things"]["post"]  # type: ignore[no-any-return]


class TestBreakingChanges:
    @pytest.mark.parametrize(
        "change",
        [
            lambda new: new["paths"].pop("/v1/things"),
            lambda new: posted(new)["parameters"].clear(),
            lambda new: posted(new)["parameters"][0].update(required=True),
            lambda new: posted(new)["responses"].clear(),
            lambda new: taken(new)["required"].append("kind"),
            lambda new: taken(new)["properties"].pop("note"),
            lambda new: taken(new)["properties"]["kind"]["enum"].pop(),
            lambda new: taken(new)["properties"]["name"].update(type="integer"),
            lambda new: taken(new)["properties"].update(note={"type": "string"}),
            lambda new: answered(new)["properties"].pop("id"),
            lambda new: answered(new)["required"].remove("id"),
            lambda new: answered(new)["properties"]["id"].update(type="integer"),
            lambda new: answered(new)["properties"]["tags"]["items"].update(type="integer"),
            lambda new: answered(new)["properties"].update(
                id={"anyOf": [{"type": "string"}, {"type": "null"}]}
            ),
        ],
    )
    def test_are_found(self, change: Callable[[Json], object]) -> None:
        new = copy.deepcopy(OLD)
        change(new)

        assert breaking_changes(OLD, new)

    @pytest.mark.parametrize(
        "change",
        [
            lambda new: new["paths"].pop("/health"),
            lambda new: new["paths"].update({"/v1/more": {}}),
            lambda new: taken(new)["properties"].update(more={"type": "string"}),
            lambda new: taken(new)["properties"]["kind"]["enum"].append("c"),
            lambda new: answered(new)["properties"].update(more={"type": "string"}),
            lambda new: posted(new)["parameters"].append({"in": "query", "name": "more", "required": False}),
        ],
    )
    def test_additions_are_none(self, change: Callable[[Json], object]) -> None:
        new = copy.deepcopy(OLD)
        change(new)

        assert breaking_changes(OLD, new) == []


@pytest.mark.parametrize("name", sorted(APPS))
class TestPublishedApi:
    def test_keeps_its_promises(self, name: str) -> None:
        old = json.loads((FOLDER / f"{name}.json").read_text())

        assert breaking_changes(old, json.loads(document(name))) == []

    def test_is_written_down(self, name: str) -> None:
        assert (FOLDER / f"{name}.json").read_text() == document(name), "run `make openapi`"
