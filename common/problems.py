"""How failures appear in the OpenAPI documents: made from the classes that are raised."""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any, Final

from pydantic import BaseModel, Field

from common.errors import PROBLEM_TYPE, PlatformError

PROBLEM_JSON: Final = "application/problem+json"
SCHEMA: Final = {"$ref": "#/components/schemas/Problem"}
Responses = dict[int | str, dict[str, Any]]


class FieldProblem(BaseModel):
    """One field that is wrong."""

    field: str
    message: str


class Problem(BaseModel):
    """A failure, as RFC 9457 shapes it. What the caller sent is never repeated."""

    type: str = Field(examples=["urn:assay:problem:invalid-request"])
    title: str
    status: int
    detail: str | None = None
    error: str | None = Field(None, description="what RFC 6749 calls this failure, at the token endpoint")
    errors: list[FieldProblem] | None = None
    missing_scope: str | None = Field(None, description="the scope that the token or API key would need")
    required_roles: list[str] | None = Field(None, description="the roles of people who hold that scope")
    request_id: str


def refusals(*errors: type[PlatformError]) -> Responses:
    """Return the `responses` of a route that raises `errors`.

    What routes of its kind answer anyway (who is calling, the body, the query, rate limits) `StrictRoute` adds.
    """
    return with_refusals({}, errors)


def with_refusals(
    responses: Mapping[int | str, dict[str, Any]], errors: Iterable[type[PlatformError]]
) -> Responses:
    """Return `responses` with `errors` added, each by its status, type and title."""
    made: Responses = deepcopy(dict(responses))
    for error in errors:
        response = made.setdefault(error.status_code, {})
        content = response.setdefault("content", {PROBLEM_JSON: {"schema": SCHEMA, "examples": {}}})
        examples = content[PROBLEM_JSON]["examples"]
        examples[error.type] = {"summary": error.title, "value": _example(error)}
        response["description"] = _described(examples)
    return made


def _example(error: type[PlatformError]) -> dict[str, object]:
    return {
        "type": PROBLEM_TYPE + error.type,
        "title": error.title,
        "status": error.status_code,
        "request_id": "req_01kafx2m7r9w3v5t8y1z4q6n0p",
    }


def _described(examples: Mapping[str, Mapping[str, str]]) -> str:
    lines = [f"`{type_}`: {example['summary']}" for type_, example in sorted(examples.items())]
    return lines[0] if len(lines) == 1 else "\n".join(f"- {line}" for line in lines)
