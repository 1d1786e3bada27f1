"""Who is let in to a real Valkey, and to which one: certificates, names, users; and what addresses may say."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog
from pydantic import SecretStr, ValidationError

from common.settings import Environment, ServiceSettings
from common.valkey.address import ValkeyAddressError, parse_address
from common.valkey.calls import ValkeyAwayError, ValkeyRefusedError, open_shared, open_valkey
from tests.certificates import FiledAuthority
from tests.tls_front import tls_front
from tests.valkey import ValkeyServer, running_valkey
from tests.waiting import PATIENCE_S

PASSWORD = "a-password-for-tests-only-0123456789"


@dataclass(frozen=True)
class TlsServer:
    """A server that speaks TLS."""

    port: int
    authority: FiledAuthority


@pytest.fixture
async def tls_server(valkey_server: ValkeyServer, tmp_path: Path) -> AsyncIterator[TlsServer]:
    async with running_tls_server(valkey_server, tmp_path, "127.0.0.1", "localhost") as server:
        yield server


@asynccontextmanager
async def running_tls_server(behind: ValkeyServer, folder: Path, *names: str) -> AsyncIterator[TlsServer]:
    authority = FiledAuthority(folder)
    async with tls_front(behind.port, authority.server(*names)) as port:
        yield TlsServer(port, authority)


class TestTls:
    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
    async def test_is_used_where_the_certificate_is_good(self, tls_server: TlsServer, host: str) -> None:
        url = SecretStr(f"valkeys://{host}:{tls_server.port}/0?ca={tls_server.authority.file}")

        async with open_valkey(url, timeout_s=PATIENCE_S) as calls:
            assert await calls.call("ECHO", "hello") == b"hello"

    async def test_takes_the_authority_from_the_settings_too(self, tls_server: TlsServer) -> None:
        settings = ServiceSettings(
            valkey_url=SecretStr(f"rediss://127.0.0.1:{tls_server.port}"),
            valkey_ca_file=tls_server.authority.file,
            valkey_timeout_ms=5000,
        )

        async with open_shared(settings) as calls:
            assert calls is not None
            assert await calls.call("ECHO", "hello") == b"hello"

    async def test_refuses_a_certificate_of_another_authority(
        self, tls_server: TlsServer, tmp_path: Path
    ) -> None:
        other = FiledAuthority(tmp_path, "another")
        url = SecretStr(f"valkeys://127.0.0.1:{tls_server.port}/0?ca={other.file}")

        async with open_valkey(url, timeout_s=PATIENCE_S) as calls:
            with pytest.raises(ValkeyAwayError) as refused:
                await calls.call("PING")

        assert "CERTIFICATE_VERIFY_FAILED" in str(refused.value.__cause__)

    async def test_refuses_a_certificate_of_another_name(
        self, valkey_server: ValkeyServer, tmp_path: Path
    ) -> None:
        async with running_tls_server(valkey_server, tmp_path, "valkey.example") as server:
            url = SecretStr(f"valkeys://127.0.0.1:{server.port}/0?ca={server.authority.file}")

            async with open_valkey(url, timeout_s=PATIENCE_S) as calls:
                with pytest.raises(ValkeyAwayError) as refused:
                    await calls.call("PING")

        assert "CERTIFICATE_VERIFY_FAILED" in str(refused.value.__cause__)

    async def test_refuses_an_authority_that_the_machine_does_not_know(self, tls_server: TlsServer) -> None:
        url = SecretStr(f"valkeys://127.0.0.1:{tls_server.port}/0")

        async with open_valkey(url, timeout_s=PATIENCE_S) as calls:
            with pytest.raises(ValkeyAwayError):
                await calls.call("PING")


class TestUsers:
    @pytest.fixture
    def guarded(self) -> Iterator[ValkeyServer]:
        with running_valkey() as server:
            with server.client() as client:
                client.execute_command(
                    "ACL", "SETUSER", "assay", "on", f">{PASSWORD}", "~assay:*", "-@all", "+get", "+set"
                )
                client.execute_command("ACL", "SETUSER", "default", "resetpass", f">{PASSWORD}-of-the-test")
            yield server

    def url(self, server: ValkeyServer, password: str = PASSWORD) -> SecretStr:
        return SecretStr(f"valkey://assay:{password}@127.0.0.1:{server.port}/0")

    async def test_do_what_they_may(self, guarded: ValkeyServer) -> None:
        async with open_valkey(self.url(guarded), timeout_s=PATIENCE_S) as calls:
            assert await calls.call("SET", "assay:word", "a") == b"OK"

    async def test_are_refused_what_they_may_not(self, guarded: ValkeyServer) -> None:
        async with open_valkey(self.url(guarded), timeout_s=PATIENCE_S) as calls:
            for command in (("SET", "word", "a"), ("FLUSHALL",), ("CONFIG", "GET", "*")):
                with pytest.raises(ValkeyRefusedError):
                    await calls.call(*command)

            assert not calls.is_away

    async def test_with_a_wrong_password_find_nobody_and_tell_nobody_of_it(
        self, guarded: ValkeyServer
    ) -> None:
        wrong = "wrong-" + PASSWORD
        with structlog.testing.capture_logs() as lines:
            async with open_valkey(self.url(guarded, wrong), timeout_s=PATIENCE_S) as calls:
                for _ in range(5):
                    with pytest.raises(ValkeyAwayError) as refused:
                        await calls.call("PING")

        assert calls.is_away
        told = f"{lines} {refused.value!r} {refused.value.__cause__!r}"
        assert PASSWORD not in told
        assert [line["event"] for line in lines].count("valkey.failed") == 3


class TestAddresses:
    @pytest.mark.parametrize(
        "url",
        [
            "http://127.0.0.1:6379/0",
            "valkey://:secret-word@/0",
            "valkey://u:secret-word@127.0.0.1:port/0",
            "valkey://u:secret-word@127.0.0.1:6379/first",
            "valkey://u:secret-word@127.0.0.1:6379/0?ca=/ca.crt",
            "valkeys://u:secret-word@127.0.0.1:6379/0?ssl_cert_reqs=none",
            "valkeys://u:secret-word@127.0.0.1:6379/0?ca=/no/such/file",
            "valkey+cluster://u:secret-word@127.0.0.1:6379/3",
        ],
    )
    def test_that_say_something_odd_are_refused_without_being_repeated(self, url: str) -> None:
        with pytest.raises(ValkeyAddressError) as refused:
            parse_address(url)

        assert "secret-word" not in str(refused.value)

    def test_hold_users_passwords_and_databases(self) -> None:
        found = parse_address("redis://user:p%40ss@[::1]/5")

        assert (found.host, found.port, found.database) == ("::1", 6379, 5)
        assert (found.username, found.password) == ("user", "p@ss")
        assert "p@ss" not in repr(found)

    @pytest.mark.parametrize(
        "url",
        [
            "valkey://valkey:6379/0",
            "valkeys://assay:change-me-to-a-long-random-text@valkey:6379/0",
            "http://valkey:6379",
        ],
    )
    def test_that_are_not_safe_keep_production_from_starting(self, url: str) -> None:
        secret = SecretStr("x" * 40)

        with pytest.raises(ValidationError) as refused:
            ServiceSettings(
                environment=Environment.PRODUCTION, service_client_secret=secret, valkey_url=SecretStr(url)
            )

        assert url not in str(refused.value)

    @pytest.mark.parametrize("url", ["valkeys://assay:p@valkey:6379/0", "valkey://127.0.0.1:6379"])
    def test_that_are_safe_do_not(self, url: str) -> None:
        settings = ServiceSettings(
            environment=Environment.PRODUCTION,
            service_client_secret=SecretStr("x" * 40),
            valkey_url=SecretStr(url),
        )

        assert settings.valkey_url == SecretStr(url)
