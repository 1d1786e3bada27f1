"""PostgreSQL keeps institutions apart by itself: what a statement forgets, the policy of the table still says."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import structlog
from sqlalchemy import (
    BindParameter,
    Connection,
    Engine,
    bindparam,
    column,
    event,
    func,
    insert,
    inspect,
    select,
    table,
    update,
)
from sqlalchemy.exc import ProgrammingError

from ai_service.scoring.tables import decisions, idempotency_keys
from common.db import Database, RoleTooPowerfulError, migrate, open_database, writing_engine
from common.ids import new_id
from common.row_security import INSTITUTION_SETTING, POLICY, unprotect
from common.tenancy import COLUMN, EVERY_TENANT, TENANT, is_of_tenants, of_every_tenant, of_tenant
from tests.postgres import SUPERUSER, PostgresServer, seeing_all
from tests.security.tenancy.sites import Site, replaced
from tests.security.tenancy.test_tenancy import SCHEMAS, SITES, WORLDS, built, checked_in, tables_of
from tests.security.tenancy.worlds import A, B, failing
from user_service.users.tables import UserRow

__all__ = ["built"]  # a fixture
SECURED = table("pg_class", column("relname"), column("relrowsecurity"), column("relforcerowsecurity"))
POLICIES = table("pg_policies", column("tablename"), column("policyname"))
LOOKS_THE_SAME = {
    # they name a row by its key, of an institution that was looked up before
    "user_service.institutions.repository.hold_institution",
    "user_service.users.repository.hold_user",
    "user_service.users.repository.keep_user",
    "user_service.users.repository.keep_user#1",
    "alert_service.notifications.letters_repository.write_letter",
    "alert_service.notifications.repository._make_mail#1",
}
"""Statements in which a missing condition cannot be seen from outside, with a policy or without."""

STOPPED_BY_THE_GUARD = {"user_service.sessions.repository.forget_expired"}
"""SELECTs inside a statement: no mark lets one pass without its condition."""


@pytest.fixture(scope="session")
def worlds(postgres_server: PostgresServer) -> Iterator[dict[str, tuple[str, str]]]:
    """Two databases of each service, in which two institutions have the same: with its policies, and without them."""
    made = {}
    for service, world in WORLDS.items():
        kept, bare = new_id("world"), new_id("world")
        for name in (kept, bare):
            url = postgres_server.create_database(name)
            migrate(url, migrations=world.migrations)
            world.fill(url)
        with connected(postgres_server.url(bare)) as connection:
            unprotect(connection, *SCHEMAS[service])
        made[service] = (kept, bare)
    yield made
    for names in made.values():
        for name in names:
            postgres_server.drop_database(name)


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """Yield a connection as services have one, in a transaction that is committed."""
    engine = writing_engine(url)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


@contextmanager
def copied(server: PostgresServer, world: str) -> Iterator[str]:
    """Yield the address of a copy of a database."""
    name = new_id("copy")
    server.execute(f"CREATE DATABASE {name} OWNER assay TEMPLATE {world}")
    try:
        yield server.url(name)
    finally:
        server.drop_database(name)


def passes(url: str, service: str, check: str) -> bool:
    """Say whether a check of a service passes in a database; one that does not leaves it as it was."""
    try:
        WORLDS[service].checks[check](url)
    except (Exception, pytest.fail.Exception):  # noqa: BLE001 - whatever a check notices
        return False
    return True


def forgetting(institution_id: str, statement: Any) -> Any:  # noqa: ANN401 - a statement
    """Return what a mistaken `of_tenant` would: it names the institution, and its condition is always true."""
    tenant: BindParameter[str] = bindparam(TENANT, institution_id)
    always = tenant == bindparam(TENANT, institution_id)
    return of_every_tenant(statement.where(always), "the condition is forgotten by a test")


class TestPolicies:
    @pytest.mark.parametrize("service", SCHEMAS)
    def test_every_table_of_tenants_has_one_that_holds_for_its_owner_too(
        self, service: str, worlds: dict[str, tuple[str, str]], postgres_server: PostgresServer
    ) -> None:
        with connected(postgres_server.url(worlds[service][0])) as connection:
            there = inspect(connection)
            wanted = {each.name for each in tables_of(service) if is_of_tenants(each)}
            wanted |= {
                name
                for name in there.get_table_names()
                if COLUMN in {each["name"] for each in there.get_columns(name)}
            }
            enforced = select(SECURED.c.relname).where(
                SECURED.c.relrowsecurity, SECURED.c.relforcerowsecurity
            )
            secured = set(connection.scalars(enforced))
            policies = select(POLICIES.c.tablename).where(POLICIES.c.policyname == POLICY)
            with_policy = set(connection.scalars(policies))

        assert wanted
        assert wanted - secured == set()
        assert wanted - with_policy == set()

    @pytest.mark.parametrize("service", SCHEMAS)
    def test_a_session_that_says_nothing_sees_nothing_and_writes_nothing(
        self, service: str, worlds: dict[str, tuple[str, str]], postgres_server: PostgresServer
    ) -> None:
        url = postgres_server.url(worlds[service][0])
        names = [each.name for each in tables_of(service) if is_of_tenants(each)]
        with psycopg.connect(url) as silent, psycopg.connect(seeing_all(url)) as sees_all:
            seen = {name: rows(silent, name) for name in names}
            there = {name: rows(sees_all, name) for name in names}
            changed = silent.execute(f"DELETE FROM {names[-1]}".encode()).rowcount  # noqa: S608 - our own name

        assert set(seen.values()) == {0}
        assert sum(there.values()) > len(there)
        assert changed == 0

    def test_nobody_writes_a_row_of_another_institution(
        self, worlds: dict[str, tuple[str, str]], postgres_server: PostgresServer
    ) -> None:
        moving = update(idempotency_keys).values(institution_id=B.institution_id)
        with (
            copied(postgres_server, worlds["ai_service"][0]) as url,
            pytest.raises(ProgrammingError) as refused,
            connected(url) as connection,
        ):
            connection.execute(of_tenant(A.institution_id, moving))

        assert "row-level security" in str(refused.value)


class TestForgettingACondition:
    """The mutation test again: each statement without its condition, but in a transaction of its institution."""

    @pytest.mark.parametrize(
        "site", [site for site in SITES if str(site) not in STOPPED_BY_THE_GUARD], ids=str
    )
    def test_shows_nothing_of_others_and_would_without_the_policies(
        self,
        site: Site,
        built: dict[str, Path],
        worlds: dict[str, tuple[str, str]],
        postgres_server: PostgresServer,
        tmp_path: Path,
    ) -> None:
        service = checked_in(site)
        protected, bare = worlds[service]
        with replaced(site, forgetting):
            noticed_by = failing(WORLDS[service], built[service], tmp_path / "copy.db")
            if noticed_by is None:
                assert str(site) in LOOKS_THE_SAME
                return
            without = passes(postgres_server.url(bare), service, noticed_by)
            with copied(postgres_server, protected) as url:
                with_policies = passes(url, service, noticed_by)

        assert with_policies, f"{noticed_by}: the policies do not stand in for the condition"
        assert not without, f"{noticed_by}: something else than the policies does"


class TestTransactions:
    @pytest.fixture
    def engine(self, worlds: dict[str, tuple[str, str]], postgres_server: PostgresServer) -> Iterator[Engine]:
        made = writing_engine(postgres_server.url(worlds["ai_service"][0]))
        yield made
        made.dispose()

    def test_say_once_for_whom_they_run(self, engine: Engine) -> None:
        said: list[str] = []
        event.listen(engine, "before_cursor_execute", lambda *about: said.append(about[2]))

        with engine.begin() as connection:
            for _ in range(3):
                connection.execute(of_tenant(A.institution_id, select(decisions)))

        assert len([text for text in said if "set_config" in text]) == 1
        assert len(said) == 4

    def test_say_it_for_themselves_alone(self, engine: Engine) -> None:
        with (
            engine.connect() as connection
        ):  # one connection, as a pooler hands it from one transaction to the next
            with connection.begin():
                connection.execute(of_tenant(A.institution_id, select(decisions)))
            with connection.begin():
                left = connection.scalar(select(func.current_setting(INSTITUTION_SETTING, True)))
                found = connection.execute(of_tenant(B.institution_id, select(decisions))).all()

        assert left == ""
        assert [row.institution_id for row in found] == [B.institution_id]

    def test_may_turn_from_all_to_one_and_to_another(self, engine: Engine) -> None:
        everything = of_every_tenant(select(decisions), "the test")
        with engine.begin() as connection:
            counts = [
                len(connection.execute(statement).all())
                for statement in (
                    everything,
                    of_tenant(A.institution_id, select(decisions)),
                    everything,
                    of_tenant(B.institution_id, select(decisions)),
                )
            ]

        assert counts == [2, 1, 2, 1]

    def test_of_a_connection_that_is_marked_for_all_turn_to_one_and_back(self, engine: Engine) -> None:
        said: list[str] = []
        event.listen(engine, "before_cursor_execute", lambda *about: said.append(about[2]))
        with engine.connect() as connection:
            connection.execution_options(**{EVERY_TENANT: "the test"})
            counts = [
                len(connection.execute(statement).all())
                for statement in (of_tenant(A.institution_id, select(decisions)), select(decisions))
            ]

        assert counts == [1, 2]
        assert len([text for text in said if "set_config" in text]) == 2

    def test_go_on_after_a_savepoint_was_rolled_back(self, engine: Engine) -> None:
        with engine.begin() as connection:
            connection.execute(of_tenant(A.institution_id, select(decisions)))
            with connection.begin_nested() as savepoint:
                connection.execute(of_tenant(B.institution_id, select(decisions)))
                savepoint.rollback()
            found = connection.execute(of_tenant(B.institution_id, select(decisions))).all()

        assert len(found) == 1

    def test_inserts_say_whose_rows_they_make(self, engine: Engine) -> None:
        made = [
            {COLUMN: name, "transaction_id": new_id("tx"), "body_sha256": "0", "decision_id": "d"}
            for name in (A.institution_id, B.institution_id)
        ]
        with engine.connect() as connection, connection.begin() as transaction:
            connection.execute(insert(idempotency_keys).values(**made[0]))
            connection.execute(insert(idempotency_keys).values(**made[1]))
            connection.execute(
                insert(idempotency_keys), [{**row, "transaction_id": new_id("tx")} for row in made]
            )
            connection.execute(
                insert(idempotency_keys).values([{**row, "transaction_id": new_id("tx")} for row in made])
            )
            written = connection.execute(
                of_every_tenant(
                    select(idempotency_keys).where(idempotency_keys.c.decision_id == "d"), "the test"
                )
            ).all()
            transaction.rollback()

        assert len(written) == 6

    async def test_objects_that_were_read_for_all_are_written(
        self, worlds: dict[str, tuple[str, str]], postgres_server: PostgresServer
    ) -> None:
        with copied(postgres_server, worlds["user_service"][0]) as url:
            database = Database(url)
            everybody = of_every_tenant(select(UserRow), "the test")
            async with database.sessions.begin() as session:
                for user in await session.scalars(everybody):
                    user.full_name = "Somebody else"
            async with database.sessions() as session:
                names = {user.full_name for user in await session.scalars(everybody)}
            await database.engine.dispose()

        assert names == {"Somebody else"}


class TestRole:
    async def test_above_the_policies_is_refused_in_production(
        self, postgres_server: PostgresServer, postgres_url: str
    ) -> None:
        name = postgres_url.rpartition("/")[2]
        url = postgres_server.url(name, role=SUPERUSER)

        with pytest.raises(RoleTooPowerfulError, match="BYPASSRLS"):
            async with open_database(url, migrations=WORLDS["ai_service"].migrations, production=True):
                pass

        with connected(postgres_url) as connection:
            assert inspect(connection).get_table_names() == []

    async def test_above_the_policies_is_warned_of_elsewhere(
        self, postgres_server: PostgresServer, postgres_url: str
    ) -> None:
        name = postgres_url.rpartition("/")[2]
        url = postgres_server.url(name, role=SUPERUSER)

        with structlog.testing.capture_logs() as logs:
            async with open_database(url, migrations=WORLDS["ai_service"].migrations) as database:
                assert await database.connected()

        assert "database.role_above_policies" in {entry["event"] for entry in logs}

    async def test_that_owns_its_database_is_taken_in_production(self, postgres_url: str) -> None:
        async with open_database(
            postgres_url, migrations=WORLDS["ai_service"].migrations, production=True
        ) as database:
            assert await database.connected()


def rows(connection: "psycopg.Connection[Any]", name: str) -> int:
    """Return how many rows of a table a session sees."""
    found = connection.execute(f"SELECT count(*) FROM {name}".encode()).fetchone()  # noqa: S608 - our own name
    assert found is not None
    return int(found[0])
