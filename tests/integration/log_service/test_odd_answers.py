"""Whatever answers in the place of the S3 server, nothing counts as archived that is not."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from log_service.archive.s3_store import ArchiveUnavailableError, S3Store, open_s3_store
from log_service.settings import AddressingStyle, LogSettings
from tests.faults.faults import GARBAGE
from tests.raw_servers import answering


@asynccontextmanager
async def store_at(url: str, folder: Path) -> AsyncIterator[S3Store]:
    settings = LogSettings(
        database_url=f"sqlite:///{folder / 'log_service.db'}",
        s3_endpoint_url=url,
        s3_access_key_id="anything",
        s3_secret_access_key=SecretStr("anything"),
        s3_addressing_style=AddressingStyle.PATH,
    )
    async with open_s3_store(settings) as store:
        yield store


class TestOddAnswers:
    @pytest.mark.parametrize("answer", GARBAGE)
    async def test_nothing_is_taken_for_stored(self, answer: bytes, tmp_path: Path) -> None:
        async with answering(answer) as url, store_at(url, tmp_path) as store:
            with pytest.raises(ArchiveUnavailableError):
                await store.put("audit/one", b"content", facts={})

    @pytest.mark.parametrize("answer", GARBAGE)
    async def test_nothing_is_taken_for_an_object(self, answer: bytes, tmp_path: Path) -> None:
        async with answering(answer) as url, store_at(url, tmp_path) as store:
            with pytest.raises(ArchiveUnavailableError):
                await store.fetch("audit/one", max_bytes=100)
