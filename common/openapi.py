"""The OpenAPI document: the problem shape is one named schema, and every failure refers to it."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from common.problems import Problem


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
    for path in made.get("paths", {}).values():
        for operation in path.values():
            for status, response in operation["responses"].items():
                if status >= "400" and (status != "503" or "content" not in response):
                    response["content"] = {
                        "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
                    }
    return made
