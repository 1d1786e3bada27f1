"""Where Valkey is and how to reach it: its URL, read strictly, and connections as that says."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from valkey.asyncio.connection import Connection

from common.errors import StartupError

CONNECT_TIMEOUT_S: Final = 2.0
DEFAULT_PORT: Final = 6379
_FILES: Final = frozenset({"ca", "cert", "key"})
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_CLUSTER: Final = "+cluster"


class ValkeyAddressError(StartupError, ValueError):
    """The URL of Valkey cannot be used; the message holds nothing of it."""


@dataclass(frozen=True)
class ValkeyAddress:
    """One server or, of a cluster, one node to ask for the others."""

    host: str
    port: int
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    is_cluster: bool = False

    def at(self, host: str, port: int) -> Self:
        """Return another node that is reached in the same way."""
        return replace(self, host=host or self.host, port=port)

    def connection(self) -> Connection:
        """Return a connection that is not made yet; whoever uses it says how long its calls may take."""
        options: dict[str, Any] = {
            "host": self.host,
            "port": self.port,
            "db": self.database,
            "username": self.username,
            "password": self.password,
            "socket_timeout": None,
            "socket_connect_timeout": CONNECT_TIMEOUT_S,
            "socket_keepalive": True,
            "lib_name": None,  # two replies less to wait for, and one thing less that an ACL has to allow
            "lib_version": None,
        }
        return Connection(**options) if self.tls is None else _TlsConnection(self.tls, **options)


class _TlsConnection(Connection):
    """Checks the certificate and the name in it; the library's own class makes a context for every connection."""

    def __init__(self, tls: ssl.SSLContext, **options: Any) -> None:  # noqa: ANN401 - as the library has it
        super().__init__(**options)
        self._tls = tls

    def _connection_arguments(self) -> Mapping[str, Any]:
        return {"host": self.host, "port": self.port, "ssl": self._tls, "server_hostname": self.host}


def check_address(url: str, *, in_production: bool) -> None:
    """Raise `ValkeyAddressError` where a URL cannot be used; in production also where what it protects can be read.

    Only on its way within this machine does it go unencrypted there.
    """
    parts = _Parts.of(url)
    if in_production and parts.password is not None and parts.password.startswith("change-me"):
        raise ValkeyAddressError("the password of Valkey is a placeholder")
    if in_production and not parts.is_encrypted and parts.host not in _LOOPBACK:
        raise ValkeyAddressError("production reaches Valkey over TLS: valkeys:// instead of valkey://")


def parse_address(url: str, *, ca_file: Path | None = None) -> ValkeyAddress:
    """Read `valkey://user:password@host:port/0`; raises `ValkeyAddressError`.

    `valkeys://` is over TLS, `valkey+cluster://` and `valkeys+cluster://` lead to a cluster, and `redis` means the same
    as `valkey`. The parameter `ca` names the file of the authority that certificates have to come from (`ca_file`
    where it is missing, then the machine's own), `cert` and `key` those of a certificate of our own.
    """
    parts = _Parts.of(url)
    return ValkeyAddress(
        host=parts.host,
        port=parts.port,
        database=parts.database,
        username=parts.username,
        password=parts.password,
        tls=_context(parts.files, ca_file) if parts.is_encrypted else None,
        is_cluster=parts.is_cluster,
    )


@dataclass(frozen=True)
class _Parts:
    """What a URL says, before any file is read."""

    is_encrypted: bool
    is_cluster: bool
    host: str
    port: int
    database: int
    username: str | None
    password: str | None = field(repr=False)
    files: Mapping[str, str]

    @classmethod
    def of(cls, url: str) -> Self:
        try:
            found = urlsplit(url)
            port = found.port or DEFAULT_PORT
            files = dict(parse_qsl(found.query, strict_parsing=bool(found.query)))
            database = int(found.path.strip("/") or 0)
        except ValueError:
            raise ValkeyAddressError("it is no URL like valkey://user:password@host:6379/0") from None
        scheme, is_cluster = found.scheme.removesuffix(_CLUSTER), found.scheme.endswith(_CLUSTER)
        if scheme not in {"valkey", "valkeys", "redis", "rediss"}:
            raise ValkeyAddressError(
                "it begins with valkey://, valkeys://, valkey+cluster:// or valkeys+cluster://"
            )
        if not found.hostname:
            raise ValkeyAddressError("it names no host")
        is_encrypted = scheme in {"valkeys", "rediss"}
        if not files.keys() <= _FILES or (files and not is_encrypted):
            raise ValkeyAddressError("its parameters are ca, cert and key, and belong to valkeys://")
        if is_cluster and database:
            raise ValkeyAddressError("a cluster has database 0 alone")
        return cls(
            is_encrypted=is_encrypted,
            is_cluster=is_cluster,
            host=found.hostname,
            port=port,
            database=database,
            username=unquote(found.username) if found.username else None,
            password=unquote(found.password) if found.password else None,
            files=files,
        )


def _context(files: Mapping[str, str], ca_file: Path | None) -> ssl.SSLContext:
    ca = files.get("ca") or (None if ca_file is None else str(ca_file))
    try:
        context = ssl.create_default_context(cafile=ca)
        if "cert" in files:
            context.load_cert_chain(files["cert"], files.get("key"))
    except (OSError, ssl.SSLError) as error:
        raise ValkeyAddressError(
            f"the certificates for Valkey cannot be read: {type(error).__name__}"
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
