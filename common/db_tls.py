"""TLS to PostgreSQL: what an address must ask for in production, and the same address as asyncpg reads it."""

import re
from pathlib import Path

from sqlalchemy import URL

from common.db_connections import DatabaseUrl, parsed

VERIFYING = ("verify-full", "verify-ca")
SYSTEM_AUTHORITIES = "system"
# what libpq reads of an address and asyncpg, which would send it to the server as a setting, does not
_OF_LIBPQ = frozenset(
    {
        "channel_binding",
        "connect_timeout",
        "gssencmode",
        "hostaddr",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "options",
        "require_auth",
        "sslcertmode",
        "sslcompression",
        "sslsni",
        "tcp_user_timeout",
    }
)


_OPTION = re.compile(r"(?:-c\s*|--)([A-Za-z_][A-Za-z0-9_.]*)=([^\s\\]*)(?:\s+|\Z)")


def two_meanings(url: DatabaseUrl) -> str | None:
    """Return what in an address the two drivers, psycopg and asyncpg, would take for different things; None if nothing."""
    address = parsed(url)
    if address.get_backend_name() == "sqlite":
        return None
    query = address.query
    named = [address.host or "", query.get("host", ""), query.get("port", "")]
    if any(not isinstance(each, str) or "," in each for each in named) or (address.host and "host" in query):
        return "must name one host; where servers take over from each other, an address that leads to the present one"
    if "hostaddr" in query:
        return "must name its server by host, not by hostaddr"
    try:
        server_settings(url)
    except ValueError as error:
        return str(error)
    return None


def server_settings(url: DatabaseUrl) -> dict[str, str]:
    """Return the settings in the `options` of an address, which asyncpg takes by name; raises `ValueError` for others."""
    options = parsed(url).query.get("options", "")
    left = options.strip() if isinstance(options, str) else None  # libpq would take one of them
    found: dict[str, str] = {}
    while left != "":
        option = _OPTION.match(left or "")
        if option is None:
            raise ValueError("may have options=-c NAME=VALUE only, once, as many of them as are wanted")
        found[option[1]] = option[2]
        left = option.string[option.end() :]
    return found


def missing_tls(url: DatabaseUrl) -> str | None:
    """Return what an address lacks so that nobody on the way reads or changes what is said; None if nothing.

    A file of SQLite's and a socket of this machine need no encryption.
    """
    address = parsed(url)
    if address.get_backend_name() == "sqlite" or _is_on_this_machine(address):
        return None
    if address.query.get("sslrootcert") == SYSTEM_AUTHORITIES:
        return "must name the file of the authorities: sslrootcert=FILE; asyncpg does not know sslrootcert=system"
    if address.query.get("sslmode") in VERIFYING:
        return None
    return (
        "must ask for TLS that checks the server: add sslmode=verify-full, and sslrootcert=FILE (the certificate of "
        "the authority, or the file of those the system trusts)"
    )


def asyncpg_dsn(url: DatabaseUrl) -> str:
    """Return the address for asyncpg, which checks the server exactly as psycopg does with `url`.

    Raises `ValueError` for `sslrootcert=system`, which asyncpg does not know: name the file of those authorities.
    """
    address = parsed(url)
    authorities = address.query.get("sslrootcert")
    if authorities == SYSTEM_AUTHORITIES:
        raise ValueError("asyncpg does not know sslrootcert=system; name the file of the authorities")
    if authorities is None and address.query.get("sslmode") in VERIFYING:
        # libpq looks here; asyncpg would take the system's authorities, should the file be missing
        address = address.update_query_dict({"sslrootcert": str(Path.home() / ".postgresql/root.crt")})
    kept = {name: value for name, value in address.query.items() if name not in _OF_LIBPQ}
    return address.set(drivername="postgresql", query=kept).render_as_string(hide_password=False)


def _is_on_this_machine(address: URL) -> bool:
    """Whether all hosts of an address are sockets in the file system."""
    named = address.query.get("host", address.host or "")
    hosts = named.split(",") if isinstance(named, str) else list(named)
    return "hostaddr" not in address.query and all(
        host == "" or host.startswith(("/", "@")) for host in hosts
    )
