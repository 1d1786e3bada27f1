"""Fixtures that more than one kind of test uses."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest
import structlog

from common.logging import leave_request
from tests.fakes import FakeUserService
from tests.postgres import postgres_server, postgres_url
from tests.servers import serving

__all__ = ["postgres_server", "postgres_url"]  # fixtures that live beside the server they start


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


@pytest.fixture(autouse=True)
def fresh_logging() -> None:
    """Forget how the service of an earlier test logged."""
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    leave_request()
