"""Accepting alerts: the same promises on either engine."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from sqlalchemy import select

from alert_service.alerts.alert_store import AlertStore, open_alert_store
from alert_service.alerts.tables import alerts
from alert_service.bootstrap import MIGRATIONS
from common.contracts.alerts import AlertRequest
from common.db import migrate, writing_engine
from common.failpoints import FailpointError, armed
from common.postgres.commits import REPEATED
from common.tenancy import of_every_tenant
from common.writer import DatabaseWriter
from tests.alert_factories import make_alert
from tests.waiting import PATIENCE_S

NOW_MS = 1_793_500_000_000


@pytest.fixture(params=["sqlite", "postgresql"])
async def opened(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[AlertStore, DatabaseWriter]]:
    """What keeps alerts on each engine, and what looks at them."""
    url: str = (
        f"sqlite:///{tmp_path}/alerts.db"
        if request.param == "sqlite"
        else request.getfixturevalue("postgres_url")
    )
    migrate(url, migrations=MIGRATIONS)
    async with AsyncExitStack() as stack:
        writer = DatabaseWriter(writing_engine(url))
        stack.push_async_callback(writer.close)
        yield await stack.enter_async_context(open_alert_store(url, writer)), writer


async def kept(writer: DatabaseWriter) -> list[AlertRequest]:
    query = of_every_tenant(select(alerts.c.body).order_by(alerts.c.alert_id), "a test looks at all")
    return [
        AlertRequest.model_validate_json(body) for body in await writer.run(lambda c: c.scalars(query).all())
    ]


class TestAccept:
    async def test_says_which_were_new_and_leaves_repeats_as_they_are(
        self, opened: tuple[AlertStore, DatabaseWriter]
    ) -> None:
        store, writer = opened
        first = make_alert(alert_id="alr_1")

        fresh = [
            await store.accept(batch, now_ms=NOW_MS)
            for batch in (
                [first],
                [make_alert(alert_id="alr_1", amount="1.00"), make_alert(alert_id="alr_2")],
            )
        ]

        assert fresh == [{"alr_1"}, {"alr_2"}]
        assert await kept(writer) == [first, make_alert(alert_id="alr_2")]

    async def test_keeps_an_alert_once_whose_batches_come_at_the_same_moment(
        self, opened: tuple[AlertStore, DatabaseWriter]
    ) -> None:
        store, writer = opened
        order = random.Random(5)  # noqa: S311 - the same disorder every time
        everything = [make_alert(alert_id=f"alr_{number:03}") for number in range(60)]
        repeated = REPEATED._value.get()

        async with asyncio.timeout(PATIENCE_S):
            fresh = await asyncio.gather(
                *(store.accept(order.sample(everything, k=40), now_ms=NOW_MS) for _ in range(12))
            )

        assert sum(map(len, fresh)) == len(await kept(writer)) == len(set().union(*fresh))
        assert REPEATED._value.get() == repeated  # nobody was chosen to give way

    async def test_that_fails_keeps_nothing(self, opened: tuple[AlertStore, DatabaseWriter]) -> None:
        store, writer = opened

        with armed("alerts.before_commit:error"), pytest.raises(FailpointError):
            await store.accept([make_alert()], now_ms=NOW_MS)

        assert await kept(writer) == []
