"""The comparison of answers with the API document finds what is missing in it."""

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from starlette.types import Receive, Scope, Send

from common.errors import NotFoundError, OverloadedError, install_error_handlers
from common.openapi import install_openapi
from common.problems import refusals
from tests.asgi import open_app
from tests.documented import Answers, published

router = APIRouter()


@router.get("/v1/things/{thing}", responses=refusals(NotFoundError))
async def read_thing(thing: str) -> dict[str, str]:
    if thing == "gone":
        raise NotFoundError
    if thing == "busy":
        raise OverloadedError
    return {"thing": thing}


@router.get("/v1/other", responses={503: {"description": "no problem of any type"}})
async def read_other() -> None:
    raise OverloadedError


async def undocumented(path: str) -> set[str]:
    app = FastAPI()
    install_error_handlers(app)
    install_openapi(app)
    app.include_router(router)
    answers = Answers(app.openapi()["paths"])

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, answers.watched(scope, send))

    transport = httpx.ASGITransport(app=watched)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        await client.get(path)
    return answers.undocumented


class TestAnswers:
    async def test_that_are_documented_are_fine(self) -> None:
        assert await undocumented("/v1/things/one") == set()
        assert await undocumented("/v1/things/gone") == set()

    async def test_of_an_unknown_status_are_found(self) -> None:
        assert await undocumented("/v1/things/busy") == {"GET /v1/things/{thing}: 503 overloaded"}

    async def test_of_an_unknown_type_are_found(self) -> None:
        assert await undocumented("/v1/other") == {"GET /v1/other: 503 overloaded"}

    async def test_fail_the_test_that_opened_the_application(self) -> None:
        app = FastAPI(title="Assay user_service")

        @app.get("/v1/signing-keys", status_code=206)
        async def partial_content() -> None: ...

        with pytest.raises(AssertionError, match="GET /v1/signing-keys: 206"):
            async with open_app(app) as client:
                await client.get("/v1/signing-keys")

    def test_are_compared_for_each_of_our_services_and_no_other(self) -> None:
        assert "/v1/score" in (published("Assay ai_service") or {})
        assert published("Tiny") is None
