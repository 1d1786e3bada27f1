"""How failures appear in the OpenAPI documents."""

from typing import Any

from pydantic import BaseModel, Field


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
    request_id: str


PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"description": "The body is not JSON that is read here"},
    401: {"description": "No valid access token"},
    403: {"description": "The access token does not allow this"},
    415: {"description": "The body is not declared as JSON in UTF-8"},
    422: {"description": "The request has values that are not taken here"},
}
