"""Who gets through the dependencies that endpoints name."""

from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Depends

from common.auth.bearer import Caller, require_scope, require_service
from common.auth.gate import Expected
from common.auth.keys import TokenVerifier
from common.auth.principal import Principal
from common.auth.signing import public_jwk
from common.contracts.tokens import Scope
from common.strict_json import StrictRoute
from tests.api.common.conftest import Thing, Tiny, assert_problem
from tests.fakes import FakeUserService, new_key

JSON = {"Content-Type": "application/json"}
REFUSED: list[dict[str, Any]] = [
    {"content": b'{"count": 1}'},
    {"content": b"{", "headers": JSON},
    {"content": b'{"count": NaN}', "headers": JSON},
    {"content": b'{"count": "x", "more": 1}', "headers": JSON},
    {"content": b"", "headers": JSON},
    {"content": b"{", "headers": {"Content-Type": "text/plain"}},
    {"content": b"{", "headers": {**JSON, "Content-Encoding": "gzip"}},
    {"content": b"{", "headers": JSON, "params": {"unknown": "1"}},
]


def guarded() -> APIRouter:
    router = APIRouter(prefix="/v1", route_class=StrictRoute)

    @router.get("/anyone")
    async def anyone(caller: Caller) -> str:
        return caller.subject

    @router.get("/user")
    async def user(caller: Annotated[Principal, Depends(require_scope(Scope.SCORE_WRITE))]) -> str:
        return caller.institution_id

    @router.get("/service")
    async def service(caller: Annotated[Principal, Depends(require_service(Scope.AUDIT_WRITE))]) -> str:
        return caller.subject

    @router.post("/anyones-thing")
    async def anyones_thing(thing: Thing, caller: Caller) -> str:
        return f"{caller.subject} {thing.count}"

    @router.post("/thing", dependencies=[Depends(require_scope(Scope.SCORE_WRITE))])
    async def thing(thing: Thing) -> int:
        return thing.count

    return router


class OwnKey:
    def __init__(self, users: FakeUserService) -> None:
        self._key = public_jwk(users.key)

    async def find(self, _kid: str) -> dict[str, str]:
        return self._key

    def has(self, kid: str) -> bool:
        return kid == self._key["kid"]


@pytest.fixture
def issuer() -> FakeUserService:
    return FakeUserService()


@pytest.fixture
def tiny(issuer: FakeUserService) -> Tiny:
    verifier = TokenVerifier(OwnKey(issuer), expected=Expected(issuer="assay", audience="assay"))
    return Tiny(state={"token_verifier": verifier}, routers=[guarded()])


@pytest.fixture
async def client(tiny: Tiny) -> AsyncIterator[httpx.AsyncClient]:
    async with tiny.open() as opened:
        yield opened


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("request_", REFUSED)
class TestWhoIsCalling:
    @pytest.mark.parametrize("path", ["/v1/anyones-thing", "/v1/thing"])
    @pytest.mark.parametrize("token", [None, "nonsense"])
    async def test_is_asked_before_a_request_is_judged(
        self, client: httpx.AsyncClient, path: str, token: str | None, request_: dict[str, Any]
    ) -> None:
        headers = {**request_.get("headers", {}), **({} if token is None else bearer(token))}

        response = await client.post(path, **{**request_, "headers": headers})

        assert_problem(response, 401, "unauthenticated")

    async def test_and_what_they_may_do_too(
        self, client: httpx.AsyncClient, issuer: FakeUserService, request_: dict[str, Any]
    ) -> None:
        headers = {**request_.get("headers", {}), **bearer(issuer.user_token(scopes=[Scope.AUDIT_READ]))}

        response = await client.post("/v1/thing", **{**request_, "headers": headers})

        assert_problem(response, 403, "forbidden")

    async def test_is_known_so_what_is_wrong_is_said(
        self, client: httpx.AsyncClient, issuer: FakeUserService, request_: dict[str, Any]
    ) -> None:
        headers = {**request_.get("headers", {}), **bearer(issuer.user_token())}

        statuses = [
            (await client.post(path, **{**request_, "headers": headers})).status_code
            for path in ("/v1/anyones-thing", "/v1/thing")
        ]

        assert statuses[0] == statuses[1]
        assert statuses[0] in {400, 415, 422}


class TestAnyone:
    async def test_with_a_good_token_is_let_through_and_named_in_the_log(
        self, client: httpx.AsyncClient, issuer: FakeUserService, lines: list[Any]
    ) -> None:
        token = issuer.user_token()

        response = await client.get("/v1/anyone", headers=bearer(token))

        assert (response.status_code, response.json()) == (200, "usr_test")
        assert lines[-1]["caller"] == "usr_test"
        assert token not in str(lines)

    @pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
    async def test_may_write_the_scheme_in_any_case(
        self, client: httpx.AsyncClient, issuer: FakeUserService, scheme: str
    ) -> None:
        headers = {"Authorization": f"{scheme} {issuer.user_token()}"}

        assert (await client.get("/v1/anyone", headers=headers)).status_code == 200

    @pytest.mark.parametrize(
        "headers",
        [
            lambda token: {},
            lambda token: {"Authorization": ""},
            lambda token: {"Authorization": "Bearer"},
            lambda token: {"Authorization": "Bearer "},
            lambda token: {"Authorization": token},
            lambda token: {"Authorization": f"Basic {token}"},
            lambda token: {"Authorization": f"Token {token}"},
            lambda token: {"Authorization": f"Bearer {token}, Bearer {token}"},
            lambda token: {"Authorization": f"Bearer {token} {token}"},
            lambda token: {"Authorization": f"Bearer {token}="},
            lambda token: {"Authorization": f"Bearer {token}x"},
            lambda token: {"Authorization": f"Bearer {token[:-4]}"},
            lambda token: {"Authorization": f"Bearer {token.rpartition('.')[0]}."},
            lambda token: {"Authorization": "Bearer " + "x" * 5000},
            lambda token: [(b"Authorization", f"Bearer {token}".encode() + b"\xe9")],
            lambda token: [("Authorization", f"Bearer {token}"), ("Authorization", f"Bearer {token}")],
            lambda token: [("Authorization", f"Bearer {token}"), ("authorization", "Basic eDp5")],
            lambda token: {"Cookie": f"access_token={token}"},
            lambda token: {"X-Authorization": f"Bearer {token}"},
        ],
    )
    async def test_without_exactly_one_good_token_is_not(
        self, client: httpx.AsyncClient, issuer: FakeUserService, headers: Callable[[str], Any]
    ) -> None:
        token = issuer.user_token()

        response = await client.get(f"/v1/anyone?access_token={token}", headers=headers(token))

        body = assert_problem(response, 401, "unauthenticated")
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert set(body) == {"type", "title", "status", "request_id"}
        assert token not in response.text

    @pytest.mark.parametrize(
        "changes", [{"iss": "assay-staging"}, {"aud": "other"}, {"exp": 1}, {"sub": None}, {"scope": "root"}]
    )
    async def test_with_a_token_for_something_else_is_not(
        self, client: httpx.AsyncClient, issuer: FakeUserService, changes: dict[str, Any]
    ) -> None:
        response = await client.get("/v1/anyone", headers=bearer(issuer.user_token(**changes)))

        assert_problem(response, 401, "unauthenticated")

    async def test_with_a_token_of_another_key_is_not(self, client: httpx.AsyncClient) -> None:
        response = await client.get("/v1/anyone", headers=bearer(FakeUserService(new_key()).user_token()))

        assert_problem(response, 401, "unauthenticated")


class TestUserRoutes:
    async def test_take_users_with_the_scope(
        self, client: httpx.AsyncClient, issuer: FakeUserService
    ) -> None:
        response = await client.get("/v1/user", headers=bearer(issuer.user_token()))

        assert (response.status_code, response.json()) == (200, "ins_test")

    async def test_refuse_users_without_it(self, client: httpx.AsyncClient, issuer: FakeUserService) -> None:
        response = await client.get("/v1/user", headers=bearer(issuer.user_token(scopes=[Scope.ALERTS_READ])))

        assert_problem(response, 403, "forbidden")

    async def test_refuse_services_even_with_it(
        self, client: httpx.AsyncClient, issuer: FakeUserService
    ) -> None:
        response = await client.get("/v1/user", headers=bearer(issuer.service_token(*Scope)))

        assert_problem(response, 403, "forbidden")


class TestServiceRoutes:
    async def test_take_services_with_the_scope(
        self, client: httpx.AsyncClient, issuer: FakeUserService
    ) -> None:
        response = await client.get("/v1/service", headers=bearer(issuer.service_token(Scope.AUDIT_WRITE)))

        assert (response.status_code, response.json()) == (200, "ai_service")

    async def test_refuse_services_without_it(
        self, client: httpx.AsyncClient, issuer: FakeUserService
    ) -> None:
        response = await client.get("/v1/service", headers=bearer(issuer.service_token(Scope.ALERTS_WRITE)))

        assert_problem(response, 403, "forbidden")

    async def test_refuse_users_even_with_it(
        self, client: httpx.AsyncClient, issuer: FakeUserService
    ) -> None:
        response = await client.get("/v1/service", headers=bearer(issuer.user_token(scopes=list(Scope))))

        assert_problem(response, 403, "forbidden")

    async def test_refuse_nobody(self, client: httpx.AsyncClient) -> None:
        assert_problem(await client.get("/v1/service"), 401, "unauthenticated")
