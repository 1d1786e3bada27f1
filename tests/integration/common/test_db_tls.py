"""TLS to PostgreSQL: the server is checked, by both drivers, and asked for in production."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from ssl import SSLError
from urllib.parse import urlencode

import asyncpg
import pytest
from pydantic import ValidationError
from sqlalchemy import func, literal, select
from sqlalchemy.exc import OperationalError

from common.db import Database, writing_engine
from common.db_settings import DatabaseSettings
from common.db_tls import asyncpg_dsn
from common.postgres.commits import open_group_commits
from common.postgres.statements import Statement
from tests.certificates import make_authority
from tests.postgres import PostgresServer
from tests.postgres_tls import tls_in_front
from tests.waiting import PATIENCE_S

SEVEN = select(literal(7))


@dataclass(frozen=True)
class Place:
    """A server with a certificate for `localhost`, and the authorities its clients may believe."""

    port: int
    authority: Path
    stranger: Path

    def url(
        self, *, host: str = "localhost", authority: Path | None = None, sslmode: str = "verify-full"
    ) -> str:
        return (
            f"postgresql://assay@{host}:{self.port}/postgres"
            f"?sslmode={sslmode}&sslrootcert={authority or self.authority}"
        )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("authorities")
    authority, stranger = make_authority("ours"), make_authority("somebody else's")
    ours, other, certificate, key = (folder / name for name in ("ours.crt", "other.crt", "db.crt", "db.key"))
    ours.write_bytes(authority.pem)
    other.write_bytes(stranger.pem)
    for path, content in zip((certificate, key), authority.issue("localhost"), strict=True):
        path.write_bytes(content)
    with tls_in_front(postgres_server.port, certificate=certificate, key=key) as port:
        yield Place(port, ours, other)


async def ask_asyncpg(url: str) -> object:
    connection = await asyncpg.connect(asyncpg_dsn(url), timeout=PATIENCE_S)
    try:
        return await connection.fetchval("SELECT 7")
    finally:
        await connection.close()


def ask_psycopg(url: str) -> object:
    engine = writing_engine(url)
    try:
        with engine.connect() as connection:
            return connection.scalar(SEVEN)
    finally:
        engine.dispose()


class TestConnections:
    @pytest.mark.parametrize("sslmode", ["verify-full", "verify-ca"])
    async def test_are_encrypted_and_checked_by_both_drivers(self, place: Place, sslmode: str) -> None:
        url = place.url(sslmode=sslmode)
        database = Database(url)
        async with database.engine.connect() as connection:
            of_the_loop = await connection.scalar(SEVEN)
        await database.engine.dispose()

        assert (ask_psycopg(url), of_the_loop, await ask_asyncpg(url)) == (7, 7, 7)

    async def test_without_encryption_get_nowhere_here(self, place: Place) -> None:
        with pytest.raises(OperationalError):
            ask_psycopg(place.url(sslmode="disable"))

    async def test_to_a_server_of_another_authority_are_refused(self, place: Place) -> None:
        url = place.url(authority=place.stranger)

        with pytest.raises(OperationalError, match="certificate verify failed"):
            ask_psycopg(url)
        with pytest.raises(SSLError, match="CERTIFICATE_VERIFY_FAILED"):
            await ask_asyncpg(url)

    async def test_to_a_server_of_another_name_are_refused(self, place: Place) -> None:
        url = place.url(host="127.0.0.1")

        with pytest.raises(OperationalError, match="does not match host name"):
            ask_psycopg(url)
        with pytest.raises(SSLError, match="CERTIFICATE_VERIFY_FAILED"):
            await ask_asyncpg(url)

    async def test_that_only_libpq_has_words_for_are_made_by_asyncpg_too(self, place: Place) -> None:
        url = place.url() + "&connect_timeout=5&keepalives_idle=9&options=-c%20lock_timeout%3D1s"

        assert await ask_asyncpg(url) == 7

    def test_need_a_file_where_asyncpg_knows_no_authorities(self) -> None:
        with pytest.raises(ValueError, match="name the file"):
            asyncpg_dsn("postgresql://db/assay?sslmode=verify-full&sslrootcert=system")

    def test_to_the_default_authorities_are_the_same_for_both(self) -> None:
        assert "root.crt" in asyncpg_dsn("postgresql://db/assay?sslmode=verify-full")


class TestAnAddress:
    @pytest.mark.parametrize(
        ("url", "words"),
        [
            ("postgresql://assay:secret@/assay?host=db1:5432&host=db2:5432", "must name one host"),
            ("postgresql://assay:secret@/assay?host=db1,db2", "must name one host"),
            ("postgresql://assay:secret@db1,db2/assay", "must name one host"),
            ("postgresql://assay:secret@db1/assay?host=db2", "must name one host"),
            ("postgresql://assay:secret@/assay?host=db1&port=5432,5433", "must name one host"),
            (
                "postgresql://assay:secret@db1:5432,db2:5432/assay",
                "is written sqlite:///FILE or postgresql://",
            ),
            ("postgresql://assay:secret@db/assay?hostaddr=192.0.2.1", "not by hostaddr"),
            ("postgresql://assay:secret@db/assay?options=-E", "may have options=-c NAME=VALUE"),
            (
                "postgresql://assay:secret@db/assay?options=-c%20a%3Db%5C%20c",
                "may have options=-c NAME=VALUE",
            ),
            (
                "postgresql://assay:secret@db/assay?options=-ca%3Db&options=-cd%3De",
                "may have options=-c NAME=VALUE",
            ),
        ],
    )
    def test_that_two_drivers_read_differently_is_refused(self, url: str, words: str) -> None:
        with pytest.raises(ValidationError) as refused:
            DatabaseSettings.model_validate({"database_url": url})

        assert words in str(refused.value)
        assert "secret@" not in str(refused.value)

    @pytest.mark.parametrize(
        "options", ["-csearch_path=fraud", "-c search_path=fraud", "--search_path=fraud"]
    )
    async def test_has_its_settings_with_both_drivers(self, postgres_url: str, options: str) -> None:
        url = f"{postgres_url}?{urlencode({'options': f'{options} -c lock_timeout=7s'})}"
        asked = select(
            func.current_setting("search_path").label("path"),
            func.current_setting("lock_timeout").label("lock"),
        )
        engine = writing_engine(url)
        with engine.connect() as connection:
            by_psycopg = tuple(connection.execute(asked).one())
        engine.dispose()
        async with open_group_commits(url) as commits:
            by_asyncpg = tuple((await commits.run(lambda running: running.fetch(Statement(asked))))[0])

        assert DatabaseSettings.model_validate({"database_url": url}).database_url.get_secret_value() == url
        assert by_psycopg == by_asyncpg == ("fraud", "7s")


class TestProduction:
    def settings(self, url: str) -> DatabaseSettings:
        return DatabaseSettings.model_validate(
            {"environment": "production", "service_client_secret": "s" * 40, "database_url": url}
        )

    @pytest.mark.parametrize(
        "url",
        [
            "postgresql://assay:secret@db/assay",
            "postgresql://assay:secret@db/assay?sslmode=require",
        ],
    )
    def test_refuses_what_anybody_on_the_way_could_read_or_change(self, url: str) -> None:
        with pytest.raises(ValidationError) as refused:
            self.settings(url)

        assert "DATABASE_URL must ask for TLS" in str(refused.value)
        assert "add sslmode=verify-full, and sslrootcert=FILE" in str(refused.value)
        assert "secret@" not in str(refused.value)

    @pytest.mark.parametrize(
        "url",
        [
            "postgresql://assay:secret@db/assay?sslmode=verify-full&sslrootcert=/ca.crt",
            "postgresql://assay:secret@db/assay?sslmode=verify-ca",
            "postgresql:///assay?host=/run/postgresql",
            "postgresql:///assay",
            "sqlite:///a.db",
        ],
    )
    def test_takes_what_nobody_could(self, url: str) -> None:
        assert self.settings(url).database_url.get_secret_value() == url

    def test_is_stricter_than_development(self) -> None:
        url = "postgresql://assay@db/assay"

        assert DatabaseSettings.model_validate({"database_url": url}).database_url.get_secret_value() == url

    @pytest.mark.parametrize("url", ["mysql://db/assay", "no address at all"])
    def test_other_databases_are_refused_anywhere(self, url: str) -> None:
        with pytest.raises(ValidationError, match="is written sqlite:///FILE"):
            DatabaseSettings.model_validate({"database_url": url})

    @pytest.mark.parametrize(
        ("url", "taken"),
        [
            ("valkey://cache:6379/0", False),
            ("redis://cache:6379/0", False),
            ("valkeys://cache:6379/0", True),
            ("rediss://cache:6379/0", True),
        ],
    )
    def test_asks_for_tls_to_valkey_too(self, url: str, *, taken: bool) -> None:
        values = {
            "environment": "production",
            "service_client_secret": "s" * 40,
            "database_url": "sqlite:///a.db",
            "valkey_url": url,
        }
        if taken:
            assert DatabaseSettings.model_validate(values).valkey_url is not None
        else:
            with pytest.raises(ValidationError, match="production reaches Valkey over TLS: valkeys://"):
                DatabaseSettings.model_validate(values)

    def test_addresses_are_shown_to_nobody(self) -> None:
        settings = DatabaseSettings.model_validate({"database_url": "postgresql://assay:hidden@db/assay"})

        assert "hidden" not in f"{settings!r} {settings} {settings.model_dump_json()}"
