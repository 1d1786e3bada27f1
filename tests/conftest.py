"""Fixtures that more than one kind of test uses."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from tests.fakes import FakeUserService
from tests.servers import serving


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
