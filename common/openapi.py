"""The OpenAPI document: the problem shape is one named schema, every failure refers to it; what rate limits answer."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from common.problems import Problem

_LIMITED = {"description": "Too many requests, or the month's decisions are used up; see Retry-After"}
_HEADERS = {
    "RateLimit-Policy": "How many requests (q) are allowed in how many seconds (w), by client or caller and institution",
    "RateLimit": "How many of them are left (r), and in how many seconds there are more (t)",
    "Retry-After": "Seconds to wait",
}


def install_openapi(app: FastAPI) -> None:
    """Make `app` describe its failures as problem+json."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    made = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
    schemas = made.setdefault("components", {}).setdefault("schemas", {})
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(problem.pop("$defs"))
    schemas["Problem"] = problem
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    made["components"]["headers"] = {
        name: {
            "description": description,
            "schema": {"type": "integer" if name == "Retry-After" else "string"},
        }
        for name, description in _HEADERS.items()
    }
    for name, path in made.get("paths", {}).items():
        for operation in path.values():
            if name.startswith("/v1"):
                _add_limits(operation["responses"])
            for status, response in operation["responses"].items():
                if status >= "400" and (status != "503" or "content" not in response):
                    response["content"] = {
                        "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
                    }
    return made


def _add_limits(responses: dict[str, Any]) -> None:
    """Say what rate limits answer on every route of the API, and what every answer says of them."""
    responses.setdefault("429", dict(_LIMITED))
    for status, response in responses.items():
        if status < "300" or status == "429":
            shown = [name for name in _HEADERS if name != "Retry-After" or status == "429"]
            headers = response.setdefault("headers", {})
            headers.update({name: {"$ref": f"#/components/headers/{name}"} for name in shown})
