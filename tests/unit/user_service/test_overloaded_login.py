import asyncio
import threading
from typing import Any, cast

import pytest
from pydantic import SecretStr

from common.errors import OverloadedError
from common.pools import open_pool
from tests.waiting import PATIENCE_S
from user_service.auth.passwords import Passwords
from user_service.auth.schemas import Credentials
from user_service.login.service import Authentication
from user_service.origin import Origin


class TestLogin:
    async def test_is_refused_before_it_asks_the_database_anything_while_too_many_passwords_wait(
        self,
    ) -> None:
        free, nothing = threading.Event(), cast("Any", None)
        async with open_pool("test", workers=1, queue=0) as pool:
            waiting = asyncio.create_task(pool.run(lambda: free.wait(PATIENCE_S)))
            await asyncio.sleep(0)
            login = Authentication(Passwords(pool), nothing, nothing, nothing).login(
                session=nothing,
                credentials=Credentials(email="ada@harbour.example", password=SecretStr("nine green cranes")),
                origin=Origin("203.0.113.7", "a browser"),
                now_ms=1,
            )

            with pytest.raises(OverloadedError):
                await login

            free.set()
            assert await waiting
