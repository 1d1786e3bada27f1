"""Fixtures that more than one kind of test uses."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import lru_cache

import pytest
import structlog

from common.auth import signing
from common.logging import leave_request
from tests.fakes import FakeUserService
from tests.postgres import postgres_server, postgres_url
from tests.servers import serving
from tests.valkey import valkey_server, valkey_url

pytest_plugins = ["tests.security.tally", "tests.tables"]
# fixtures that live beside the server they start
__all__ = ["postgres_server", "postgres_url", "valkey_server", "valkey_url"]


@dataclass(frozen=True)
class RunningUserService:
    """A fake user_service and where it listens."""

    fake: FakeUserService
    url: str


@pytest.fixture
async def users() -> AsyncIterator[RunningUserService]:
    """A user_service stand-in on a free port."""
    fake = FakeUserService()
    async with serving(fake.app) as url:
        yield RunningUserService(fake, url)


@pytest.fixture(scope="session", autouse=True)
def plenty_of_requests() -> Iterator[None]:
    """Tests send all they have from one address; those of the limits name their own."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("UNAUTHENTICATED_PER_MINUTE", "1000000")
        environment.setenv("FAILED_AUTHENTICATIONS_PER_MINUTE", "1000000")
        yield


@pytest.fixture(scope="session", autouse=True)
def nothing_is_kept_of_who_may_get_in() -> Iterator[None]:
    """A service begins with what its own test says; tests of what is kept name their own folder."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ACCESS_FOLDER", "")
        yield


@pytest.fixture(scope="session", autouse=True)
def keys_are_opened_once() -> Iterator[None]:
    """Opening and checking an RSA key is what a start spends most time on; services of tests have the same few keys."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signing, "_load", lru_cache(maxsize=64)(signing._load))
        yield


@pytest.fixture(autouse=True)
def fresh_logging() -> None:
    """Forget how the service of an earlier test logged."""
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    leave_request()
