"""Who gets through the dependencies that endpoints name."""

from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Depends

from common.auth.access import STALE_S, AccessState
from common.auth.bearer import Caller, require_scope, require_service
from common.auth.gate import Expected
from common.auth.keys import TokenVerifier
from common.auth.principal import Principal
from common.auth.signing import public_jwk
from common.contracts.tokens import Scope
from common.strict_json import StrictRoute
from tests.api.common.conftest import Thing, Tiny, assert_problem
from tests.factories import SANDBOX
from tests.fakes import AccessChange, FakeUserService, access_feed, institution_access, key_access, new_key

KEY = "ask_test_0123abcd_" + "s" * 43
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

    @router.get("/always", dependencies=[Depends(require_scope(Scope.SCORE_WRITE, while_stale=True))])
    async def always() -> str:
        return "always"

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


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def access(clock: Clock) -> AccessState:
    """What the service knows: one key that may score."""
    state = AccessState(clock=clock)
    known: list[AccessChange] = [institution_access(SANDBOX), key_access(KEY, SANDBOX, Scope.SCORE_WRITE)]
    state.apply(access_feed(known), as_of=clock(), now=0)
    return state


@pytest.fixture
def tiny(issuer: FakeUserService, access: AccessState) -> Tiny:
    expected = Expected(issuer="assay", audience="assay")
    verifier = TokenVerifier(OwnKey(issuer), expected=expected, access=access)
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

        problem = assert_problem(response, 403, "forbidden")
        assert problem["missing_scope"] == "score:write"
        assert problem["required_roles"] == ["admin", "builder"]
        challenge = 'Bearer error="insufficient_scope", scope="score:write"'
        assert response.headers["WWW-Authenticate"] == challenge

    async def test_refuse_services_even_with_it(
        self, client: httpx.AsyncClient, issuer: FakeUserService
    ) -> None:
        response = await client.get("/v1/user", headers=bearer(issuer.service_token(*Scope)))

        problem = assert_problem(response, 403, "forbidden")
        assert problem["detail"] == "This is for people and API keys of institutions."
        assert "missing_scope" not in problem
        assert "WWW-Authenticate" not in response.headers


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

        problem = assert_problem(response, 403, "forbidden")
        assert problem["missing_scope"] == "audit:write"
        assert "required_roles" not in problem  # no person can have it

    async def test_refuse_users_even_with_it(
        self, client: httpx.AsyncClient, issuer: FakeUserService
    ) -> None:
        response = await client.get("/v1/service", headers=bearer(issuer.user_token(scopes=list(Scope))))

        problem = assert_problem(response, 403, "forbidden")
        assert problem["detail"] == "This is for the platform's own services."
        assert "missing_scope" not in problem

    async def test_refuse_nobody(self, client: httpx.AsyncClient) -> None:
        assert_problem(await client.get("/v1/service"), 401, "unauthenticated")


class TestApiKeys:
    async def test_are_let_through_and_named_in_the_log_by_their_id(
        self, client: httpx.AsyncClient, lines: list[Any]
    ) -> None:
        anyone = await client.get("/v1/anyone", headers={"X-API-Key": KEY})
        user = await client.get("/v1/user", headers={"x-api-key": KEY})

        assert (anyone.status_code, anyone.json()) == (200, "key_test")
        assert (user.status_code, user.json()) == (200, SANDBOX.institution_id)
        assert lines[-1]["caller"] == "key_test"
        assert KEY not in str(lines)

    async def test_get_no_further_than_their_scopes(
        self, client: httpx.AsyncClient, access: AccessState
    ) -> None:
        reader = key_access("a key that reads", SANDBOX, Scope.AUDIT_READ, key_id="key_reads")
        access.apply(access_feed([reader] * 3, after=2), as_of=0, now=0)
        headers = {"X-API-Key": "a key that reads"}

        assert_problem(await client.get("/v1/user", headers=headers), 403, "forbidden")
        assert_problem(await client.get("/v1/service", headers=headers), 403, "forbidden")

    @pytest.mark.parametrize(
        "headers",
        [
            lambda token: [("X-API-Key", KEY), ("Authorization", f"Bearer {token}")],
            lambda token: [("X-API-Key", KEY), ("Authorization", "Basic eDp5")],
            lambda token: [("X-API-Key", KEY), ("X-API-Key", KEY)],
            lambda token: [("X-API-Key", ""), ("Authorization", f"Bearer {token}")],
            lambda token: [("X-API-Key", token)],
            lambda token: [("Authorization", f"Bearer {KEY}")],
            lambda token: [("X-API-Key", KEY[:-1])],
            lambda token: [("X-API-Key", KEY[:-1] + "t")],
            lambda token: [("X-API-Key", KEY.upper())],
            lambda token: [("X-API-Key", "key_test")],
            lambda token: [("X-API-Key", "x" * 5000)],
            lambda token: [("X-API-Key", "")],
            lambda token: [(b"X-API-Key", KEY.encode() + b"\xe9")],
            lambda token: [("Cookie", f"api_key={KEY}")],
        ],
    )
    async def test_are_the_one_credential_or_none(
        self,
        client: httpx.AsyncClient,
        issuer: FakeUserService,
        lines: list[Any],
        headers: Callable[[str], Any],
    ) -> None:
        response = await client.get(f"/v1/anyone?api_key={KEY}", headers=headers(issuer.user_token()))

        body = assert_problem(response, 401, "unauthenticated")
        assert set(body) == {"type", "title", "status", "request_id"}
        assert KEY[:-1] not in response.text + str(lines)

    async def test_leave_no_trace_in_the_metrics(self, client: httpx.AsyncClient) -> None:
        await client.get("/v1/anyone", headers={"X-API-Key": KEY})

        told = (await client.get("/metrics")).text
        assert "key_test" not in told
        assert KEY not in told


class TestTokensOfApiKeys:
    async def test_are_let_through_as_long_as_the_key_holds(
        self, client: httpx.AsyncClient, issuer: FakeUserService, access: AccessState
    ) -> None:
        key = key_access(KEY, SANDBOX, Scope.SCORE_WRITE)
        headers = bearer(issuer.api_key_token(key, institution=SANDBOX))
        before = await client.get("/v1/user", headers=headers)
        ended = key_access(KEY, SANDBOX, Scope.SCORE_WRITE, revoked=True)
        access.apply(access_feed([ended] * 3, after=2), as_of=0, now=0)

        assert before.status_code == 200
        assert_problem(await client.get("/v1/user", headers=headers), 401, "unauthenticated")
        assert_problem(await client.get("/v1/user", headers={"X-API-Key": KEY}), 401, "unauthenticated")


class TestOldNews:
    """It was not heard for more than a minute whose rights have ended."""

    @pytest.mark.parametrize("path", ["/v1/anyone", "/v1/user"])
    async def test_keep_people_and_keys_out_until_there_are_new(
        self,
        client: httpx.AsyncClient,
        issuer: FakeUserService,
        access: AccessState,
        clock: Clock,
        path: str,
    ) -> None:
        callers = [bearer(issuer.user_token()), {"X-API-Key": KEY}]
        clock.now = STALE_S
        edge = [(await client.get(path, headers=headers)).status_code for headers in callers]
        clock.now = STALE_S + 0.1
        old = [await client.get(path, headers=headers) for headers in callers]
        access.apply(access_feed([institution_access(SANDBOX)] * 2, after=2), as_of=clock(), now=0)
        new = [(await client.get(path, headers=headers)).status_code for headers in callers]

        assert (edge, new) == ([200, 200], [200, 200])
        for response in old:
            assert_problem(response, 503, "unavailable")
            assert response.headers["Retry-After"] == "1"

    async def test_say_401_and_403_all_the_same(
        self, client: httpx.AsyncClient, issuer: FakeUserService, clock: Clock
    ) -> None:
        clock.now = STALE_S + 1
        reader = bearer(issuer.user_token(scopes=[Scope.AUDIT_READ]))

        assert_problem(await client.get("/v1/user", headers=bearer("x")), 401, "unauthenticated")
        assert_problem(await client.get("/v1/user", headers=reader), 403, "forbidden")

    async def test_do_not_matter_to_services_nor_where_a_route_goes_on(
        self, client: httpx.AsyncClient, issuer: FakeUserService, clock: Clock
    ) -> None:
        clock.now = STALE_S + 1
        service = bearer(issuer.service_token(Scope.AUDIT_WRITE))

        assert (await client.get("/v1/service", headers=service)).status_code == 200
        assert (await client.get("/v1/always", headers=bearer(issuer.user_token()))).status_code == 200
        assert (await client.get("/v1/always", headers={"X-API-Key": KEY})).status_code == 200


class TestNoNewsYet:
    @pytest.fixture
    def access(self, clock: Clock) -> AccessState:
        return AccessState(clock=clock)

    @pytest.mark.parametrize("path", ["/v1/anyone", "/v1/user", "/v1/always"])
    async def test_keep_everybody_out_but_services(
        self, client: httpx.AsyncClient, issuer: FakeUserService, path: str
    ) -> None:
        for headers in (bearer(issuer.user_token()), {"X-API-Key": KEY}):
            assert_problem(await client.get(path, headers=headers), 503, "unavailable")
        service = bearer(issuer.service_token(Scope.AUDIT_WRITE))
        assert (await client.get("/v1/service", headers=service)).status_code == 200
