"""The /docs page, with its scripts served from here: a browser that reads our API asks nobody else."""

from importlib.resources import files

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse, JSONResponse, Response

from common.rate_limits.limiting import count_unauthenticated

_ASSETS = files("fastapi_offline") / "static"  # the package's files only; its application class is not used
_CACHED = {"Cache-Control": "public, max-age=86400"}


def install_docs_page(app: FastAPI) -> None:
    """Serve the API document at /openapi.json, and Swagger UI at /docs."""
    app.include_router(_router)


_router = APIRouter(include_in_schema=False, dependencies=[Depends(count_unauthenticated)])


@_router.get("/openapi.json")
async def document(request: Request) -> JSONResponse:
    """Return the API document."""
    return JSONResponse(request.app.openapi())


@_router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    """Show the API in the browser."""
    return get_swagger_ui_html(
        openapi_url="/openapi.json",
        title=request.app.title,
        swagger_js_url="/docs/swagger-ui.js",
        swagger_css_url="/docs/swagger-ui.css",
        swagger_favicon_url="/docs/favicon.png",
        swagger_ui_parameters={"displayRequestDuration": True, "tryItOutEnabled": True},
    )


@_router.get("/docs/swagger-ui.js")
async def script() -> Response:
    """Return Swagger UI's script."""
    return _asset("swagger-ui-bundle.js", "text/javascript")


@_router.get("/docs/swagger-ui.css")
async def style() -> Response:
    """Return Swagger UI's style sheet."""
    return _asset("swagger-ui.css", "text/css")


@_router.get("/docs/favicon.png")
async def icon() -> Response:
    """Return the page's icon."""
    return _asset("favicon.png", "image/png")


def _asset(name: str, media_type: str) -> Response:
    return Response((_ASSETS / name).read_bytes(), media_type=media_type, headers=_CACHED)
