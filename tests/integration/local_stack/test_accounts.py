"""Accounts of the stack, against a user_service that answers as told."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from local_stack.accounts import LoginRefusedError, kept_login, register_sandbox, service_token
from local_stack.errors import StackError
from local_stack.files import StackFiles
from tests.servers import serving


@dataclass
class FakeAccounts:
    """Takes registrations, and logins until it is told to forget them."""

    status: int = 200
    registered: list[dict[str, Any]] = field(default_factory=list)
    known: dict[str, str] = field(default_factory=dict)

    @property
    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/institutions", self._register, methods=["POST"]),
                Route("/v1/auth/login", self._login, methods=["POST"]),
                Route("/v1/internal/service-tokens", self._service_token, methods=["POST"]),
            ]
        )

    async def _register(self, request: Request) -> Response:
        if self.status != 200:
            return JSONResponse({"title": "no"}, status_code=self.status)
        body = await request.json()
        self.registered.append(body)
        self.known[body["admin"]["email"]] = body["admin"]["password"]
        return JSONResponse({"institution_id": f"ins_{len(self.registered)}"}, status_code=201)

    async def _login(self, request: Request) -> Response:
        body = await request.json()
        if self.status != 200 or self.known.get(body["email"]) != body["password"]:
            return JSONResponse({"title": "no"}, status_code=self.status if self.status != 200 else 401)
        return JSONResponse({"access_token": "a-token"})

    async def _service_token(self, _request: Request) -> Response:
        return JSONResponse({"access_token": "s-token"}, status_code=self.status)


@dataclass(frozen=True)
class Accounts:
    fake: FakeAccounts
    url: str


@pytest.fixture
async def accounts() -> AsyncIterator[Accounts]:
    fake = FakeAccounts()
    async with serving(fake.app) as url:
        yield Accounts(fake, url)


class TestRegisterSandbox:
    async def test_nobody_else_has_its_address(self, accounts: Accounts) -> None:
        first = await run_in_threadpool(register_sandbox, accounts.url, name="One")
        second = await run_in_threadpool(register_sandbox, accounts.url, name="Two")

        assert first.email != second.email
        assert {body["mode"] for body in accounts.fake.registered} == {"sandbox"}
        assert first.password not in repr(first)

    async def test_a_refusal_says_why(self, accounts: Accounts) -> None:
        accounts.fake.status = 409

        with pytest.raises(StackError, match="409"):
            await run_in_threadpool(register_sandbox, accounts.url, name="One")


class TestKeptLogin:
    async def test_is_registered_once(self, accounts: Accounts, tmp_path: Path) -> None:
        files = StackFiles(tmp_path)

        first = await run_in_threadpool(kept_login, accounts.url, files)
        second = await run_in_threadpool(kept_login, accounts.url, files)

        assert first == second
        assert len(accounts.fake.registered) == 1
        assert files.login.stat().st_mode & 0o077 == 0

    async def test_is_registered_again_when_the_accounts_were_deleted(
        self, accounts: Accounts, tmp_path: Path
    ) -> None:
        files = StackFiles(tmp_path)
        first = await run_in_threadpool(kept_login, accounts.url, files)
        accounts.fake.known.clear()

        second = await run_in_threadpool(kept_login, accounts.url, files)

        assert second.email != first.email
        assert second == await run_in_threadpool(kept_login, accounts.url, files)

    async def test_is_kept_while_user_service_cannot_tell(self, accounts: Accounts, tmp_path: Path) -> None:
        files = StackFiles(tmp_path)
        await run_in_threadpool(kept_login, accounts.url, files)
        before = files.login.read_text()
        accounts.fake.status = 503

        with pytest.raises(StackError, match="No token was given: 503"):
            await run_in_threadpool(kept_login, accounts.url, files)

        assert files.login.read_text() == before


class TestServiceToken:
    async def test_is_returned(self, accounts: Accounts) -> None:
        token = await run_in_threadpool(service_token, accounts.url, client_id="ai_service", secret="s")

        assert token == "s-token"

    async def test_a_wrong_secret_is_refused(self, accounts: Accounts) -> None:
        accounts.fake.status = 401

        with pytest.raises(LoginRefusedError):
            await run_in_threadpool(service_token, accounts.url, client_id="ai_service", secret="s")
