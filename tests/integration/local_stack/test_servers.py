"""PostgreSQL and Valkey as parts of the stack: what they hold lasts, whatever ends them."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg.errors import DuplicateTable
from sqlalchemy import make_url
from valkey import Valkey
from valkey.exceptions import AuthenticationError

from local_stack.reading import reading_engine
from local_stack.servers.databases import DatabasesNotMadeError, provide_databases
from local_stack.settings import GeoProvider, Stores
from local_stack.stack import Stack, owned_stack
from tests.e2e.stacks import stack_settings

SERVERS = ("postgresql", "valkey")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The servers alone, in a folder that only this user may enter."""
    settings = stack_settings(tmp_path_factory.mktemp("a stranger's") / "var", stores=Stores.SERVERS)
    with owned_stack(settings, geoip_provider=GeoProvider.MOCK) as stack:
        stack.parts = tuple(part for part in stack.parts if part.name in SERVERS)
        stack.start()
        stack.await_ready()
        yield stack


def write(url: str, *statements: bytes) -> None:
    with psycopg.connect(url, connect_timeout=30) as connection:
        for statement in statements:
            connection.execute(statement)


def names(url: str) -> list[str]:
    with psycopg.connect(url, connect_timeout=30) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM kept ORDER BY name")]


def restart(stack: Stack, name: str, *, killed: bool) -> None:
    if killed:
        stack.kill(name)
    else:
        assert stack.stop_part(name)
    stack.start_part(name)
    stack.await_ready([name])


class TestPostgresql:
    @pytest.mark.parametrize("ended", ["stopped", "killed"])
    def test_keeps_what_was_committed(self, stack: Stack, ended: str) -> None:
        url = stack.storage.databases["ai_service"]
        write(url, b"DROP TABLE IF EXISTS kept", b"CREATE TABLE kept (name text)")
        write(url, b"INSERT INTO kept VALUES ('before')")

        restart(stack, "postgresql", killed=ended == "killed")

        assert names(url) == ["before"]

    def test_has_every_commit_on_the_disk_before_it_is_answered(self, stack: Stack) -> None:
        with psycopg.connect(stack.storage.databases["ai_service"], connect_timeout=30) as connection:
            shown = {
                name: connection.execute(b"SELECT current_setting(%s)", [name]).fetchone()
                for name in ("fsync", "synchronous_commit", "full_page_writes")
            }

        assert set(shown.values()) == {("on",)}

    def test_services_are_ordinary_owners_of_one_database(self, stack: Stack) -> None:
        urls = stack.storage.databases
        others = make_url(urls["ai_service"]).set(database=make_url(urls["user_service"]).database)

        with psycopg.connect(urls["ai_service"], connect_timeout=30) as connection:
            may = connection.execute(
                b"SELECT rolsuper, rolcreatedb, rolcreaterole, rolbypassrls, rolreplication FROM pg_roles "
                b"WHERE rolname = current_user"
            ).fetchone()
            owner = connection.execute(
                b"SELECT pg_get_userbyid(datdba) = current_user FROM pg_database WHERE datname = current_database()"
            ).fetchone()

        assert may == (False,) * 5
        assert owner == (True,)
        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            psycopg.connect(others.render_as_string(hide_password=False), connect_timeout=30)

    def test_a_wrong_password_is_refused(self, stack: Stack) -> None:
        wrong = make_url(stack.storage.databases["ai_service"]).set(password="another")

        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(wrong.render_as_string(hide_password=False), connect_timeout=30)

    def test_databases_that_are_there_are_left_as_they_are(self, stack: Stack) -> None:
        url = stack.storage.databases["log_service"]
        write(url, b"CREATE TABLE kept (name text)")

        provide_databases(stack.storage.admin_url, stack.storage.databases)

        with pytest.raises(DuplicateTable):
            write(url, b"CREATE TABLE kept (name text)")

    def test_whoever_may_not_make_databases_is_told_so(self, stack: Stack) -> None:
        ordinary = stack.storage.databases["ai_service"]
        wanted = make_url(ordinary).set(username="new", database="new").render_as_string(hide_password=False)

        with pytest.raises(DatabasesNotMadeError, match="permission denied") as refused:
            provide_databases(ordinary, {"new": wanted})

        assert str(make_url(ordinary).password) not in str(refused.value)

    def test_reading_changes_nothing(self, stack: Stack) -> None:
        url = stack.storage.databases["ai_service"]
        engine = reading_engine(url)

        with engine.connect() as connection, pytest.raises(Exception, match="read-only transaction"):
            connection.exec_driver_sql("CREATE TABLE made (name text)")

        engine.dispose()


class TestValkey:
    @pytest.mark.parametrize("ended", ["stopped", "killed"])
    def test_keeps_what_it_held(self, stack: Stack, ended: str) -> None:
        with Valkey.from_url(stack.storage.valkey_url, socket_timeout=30) as client:
            client.set("kept", "before")
            client.execute_command("WAITAOF", 1, 0, 5000)  # its file is written out every second

        restart(stack, "valkey", killed=ended == "killed")

        with Valkey.from_url(stack.storage.valkey_url, socket_timeout=30) as client:
            assert client.get("kept") == b"before"

    def test_asks_for_its_password(self, stack: Stack) -> None:
        without = make_url(stack.storage.valkey_url)

        with (
            Valkey(port=int(without.port or 0), socket_timeout=30) as client,
            pytest.raises(AuthenticationError),
        ):
            client.ping()
