"""Makes a database for each service, owned by a role of its own that may do nothing else."""

from collections.abc import Mapping

import psycopg
from psycopg import sql
from sqlalchemy import URL, make_url

from local_stack.errors import StackError

CONNECT_TIMEOUT_S = 5
_ROLES = "SELECT rolname FROM pg_roles"
_DATABASES = "SELECT datname FROM pg_database"


class DatabasesNotMadeError(StackError):
    """PostgreSQL does not answer, or the given user may not make roles and databases."""


def provide_databases(admin_url: str, databases: Mapping[str, str]) -> None:
    """Make the role and the database that each URL of `databases` names, unless they are there; set the passwords.

    Raises `DatabasesNotMadeError`.
    """
    try:
        with psycopg.connect(admin_url, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S) as connection:
            roles = {name for (name,) in connection.execute(_ROLES)}
            there = {name for (name,) in connection.execute(_DATABASES)}
            for url in map(make_url, databases.values()):
                _provide_role(connection, url, is_there=url.username in roles)
                if url.database not in there:
                    _make_database(connection, url)
    except psycopg.Error as error:
        raise DatabasesNotMadeError(f"The databases could not be made in PostgreSQL: {error}") from None


def _provide_role(connection: "psycopg.Connection[object]", url: URL, *, is_there: bool) -> None:
    role = sql.Identifier(str(url.username))
    if not is_there:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
        # whoever is no superuser makes databases for those alone whose member they are
        connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(role))
    password = sql.Literal(str(url.password))
    connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, password))


def _make_database(connection: "psycopg.Connection[object]", url: URL) -> None:
    name, owner = sql.Identifier(str(url.database)), sql.Identifier(str(url.username))
    connection.execute(
        sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING 'UTF8'").format(name, owner)
    )
    connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name))
