import asyncio
from pathlib import Path

import pytest

from common.errors import StartupError
from log_service.archive.ownership import owned
from tests.waiting import PATIENCE_S


class TestOwned:
    async def test_refuses_a_second_owner_and_says_what_to_do(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path}/var/log_service.db"
        async with owned(url):
            with pytest.raises(StartupError, match="Stop it first"):
                async with owned(url, wait_s=0):
                    pass

    async def test_lets_the_next_one_in_when_the_first_ends(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path}/log_service.db"
        entered = asyncio.Event()

        async def successor() -> None:
            async with owned(url) as ownership:
                await ownership.confirm()
                entered.set()

        async with owned(url) as ownership:
            await ownership.confirm()
            waiting = asyncio.create_task(successor())
            with pytest.raises(StartupError):
                async with owned(url, wait_s=0):
                    pass
            assert not entered.is_set()

        async with asyncio.timeout(PATIENCE_S):
            await waiting
        assert entered.is_set()

    async def test_owners_of_other_databases_do_not_matter(self, tmp_path: Path) -> None:
        async with owned(f"sqlite:///{tmp_path}/a.db"), owned(f"sqlite:///{tmp_path}/b.db", wait_s=0):
            pass
