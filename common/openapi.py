"""The OpenAPI document: the problem shape is one named schema, every failure refers to it; what rate limits answer."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from common.problems import PROBLEM_JSON, SCHEMA, Problem

_ANYWHERE = (
    "Failures are `application/problem+json`; each route lists those of its own by their `type`. Besides, any"
    " address can answer 400 `bad-request`, 404 `not-found`, 405 `method-not-allowed`, 408 `request-timeout`,"
    " 413 `body-too-large`, 431 `head-too-large`, 500 `internal`, and 503 `overloaded` or `unavailable`."
)
_HEADERS = {
    "RateLimit-Policy": "How many requests (q) are allowed in how many seconds (w), by client or caller and institution",
    "RateLimit": "How many of them are left (r), and in how many seconds there are more (t)",
    "Retry-After": "Seconds to wait",
    "WWW-Authenticate": "The scheme, and what is missing (RFC 6750)",
}
_SHOWN = {
    "401": ("WWW-Authenticate",),
    "429": ("Retry-After", "RateLimit-Policy", "RateLimit"),
    "503": ("Retry-After",),
}
_OF_SUCCESS = ("RateLimit-Policy", "RateLimit")


def install_openapi(app: FastAPI) -> None:
    """Make `app` describe its failures as problem+json."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    made = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=_ANYWHERE,
        routes=app.routes,
    )
    components = made.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(problem.pop("$defs"))
    schemas["Problem"] = problem
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    components["headers"] = {
        name: {
            "description": description,
            "schema": {"type": "integer" if name == "Retry-After" else "string"},
        }
        for name, description in _HEADERS.items()
    }
    components["examples"] = {}
    for name, path in made.get("paths", {}).items():
        for operation in path.values():
            for status, response in operation["responses"].items():
                if name.startswith("/v1"):
                    _show_headers(status, response)
                _name_examples(status, response, components["examples"])
    return made


def _show_headers(status: str, response: dict[str, Any]) -> None:
    """Say which headers tell a caller of limits, and of what is missing."""
    shown = _OF_SUCCESS if status < "300" else _SHOWN.get(status, ())
    if "`forbidden`" in response["description"]:
        shown = ("WWW-Authenticate",)
    if shown:
        headers = response.setdefault("headers", {})
        headers.update({name: {"$ref": f"#/components/headers/{name}"} for name in shown})


def _name_examples(status: str, response: dict[str, Any], named: dict[str, Any]) -> None:
    """Keep each problem once, and refer to it wherever it may be answered."""
    if status.startswith("4") and PROBLEM_JSON not in response.get("content", {}):
        response["content"] = {PROBLEM_JSON: {"schema": SCHEMA}}
    examples = response.get("content", {}).get(PROBLEM_JSON, {}).get("examples", {})
    for type_, example in examples.items():
        name = f"{type_}.{status}"
        named[name] = example
        examples[type_] = {"$ref": f"#/components/examples/{name}"}
