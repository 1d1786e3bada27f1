"""What most tests of log_service's routes start from."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.api.log_service.harness import (
    NEVER_S,
    Bucket,
    RunningLogService,
    log_settings,
    open_log_service,
    s3_server,
)
from tests.conftest import RunningUserService


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[Bucket]:
    """An S3 server that is up and empty."""
    (tmp_path / "s3").mkdir()
    with s3_server(tmp_path / "s3") as server:
        yield server


@pytest.fixture
async def spooling(
    tmp_path: Path, users: RunningUserService, bucket: Bucket
) -> AsyncIterator[RunningLogService]:
    """A log_service that archives nothing while a test looks."""
    settings = log_settings(tmp_path, users, bucket, archive_interval_s=NEVER_S)
    async with open_log_service(settings, users) as service:
        yield service


@pytest.fixture
async def archiving(
    tmp_path: Path, users: RunningUserService, bucket: Bucket
) -> AsyncIterator[RunningLogService]:
    """A log_service that archives at once."""
    async with open_log_service(log_settings(tmp_path, users, bucket), users) as service:
        yield service
