"""ai_service's decisions in a real database of either engine."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, Table, select

from ai_service.bootstrap import MIGRATIONS
from ai_service.scoring.decision_store import DecisionStore, SqliteDecisionStore
from ai_service.scoring.partitions import PartitionKeeper
from ai_service.scoring.postgres_store import PostgresDecisionStore
from ai_service.scoring.tables import outbox
from ai_service.usage.service import UsageMeter
from common.contracts.access import Allowance, OverQuota, Tier
from common.db import migrate, writing_engine
from common.db_connections import is_sqlite
from common.outbox import Outbox
from common.postgres.commits import open_group_commits
from common.tenancy import EVERY_TENANT
from common.writer import DatabaseWriter

QUOTA = 10


@dataclass
class Quotas:
    """Allows every institution ten decisions a month, unless told otherwise."""

    over_quota: OverQuota = OverQuota.ALLOW_AND_WARN
    decisions_per_month: int = QUOTA

    def allowance(self, institution_id: str) -> Allowance:
        """Return the same for all."""
        return Allowance(
            tier=Tier.STARTER,
            decisions_per_month=self.decisions_per_month,
            over_quota=self.over_quota,
            requests_per_second=1000,
            caller_requests_per_second=1000,
        )


@dataclass(frozen=True)
class Kept:
    """What a test looks at: the store, and what is in the database."""

    store: DecisionStore
    usage: UsageMeter
    quotas: Quotas
    engine: Engine
    url: str

    def rows(self, table: Table) -> list[dict[str, object]]:
        """Return all rows of `table`, in the order of its key."""
        with self.engine.connect() as connection:
            connection.execution_options(**{EVERY_TENANT: "a test looks at all"})
            query = select(table).order_by(*table.primary_key)
            return [dict(row) for row in connection.execute(query).mappings()]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a database with ai_service's schema, of each engine."""
    found: str = (
        f"sqlite:///{tmp_path}/ai.db"
        if request.param == "sqlite"
        else request.getfixturevalue("postgres_url")
    )
    migrate(found, migrations=MIGRATIONS)
    return found


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    """An engine of the test's own."""
    made = writing_engine(url)
    yield made
    made.dispose()


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    """A connection whose changes are committed at the end."""
    with engine.begin() as opened:
        opened.execution_options(**{EVERY_TENANT: "a test fills for all"})
        yield opened


@pytest.fixture
async def kept(url: str, engine: Engine) -> AsyncIterator[Kept]:
    """What saves decisions on each engine, as ai_service builds it."""
    async with AsyncExitStack() as stack:
        writer = DatabaseWriter(writing_engine(url))
        stack.push_async_callback(writer.close)
        quotas = Quotas()
        usage = UsageMeter(quotas, Outbox(outbox))
        store: DecisionStore = SqliteDecisionStore(writer, usage)
        if not is_sqlite(url):
            await PartitionKeeper(writer).keep()
            store = PostgresDecisionStore(await stack.enter_async_context(open_group_commits(url)), usage)
        yield Kept(store, usage, quotas, engine, url)
