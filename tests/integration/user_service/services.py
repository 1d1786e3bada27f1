"""user_service, log_service and alert_service, all real, each on a port of its own, with an S3 and a mail server."""

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession

from alert_service.main import SERVICE as ALERT_SERVICE
from alert_service.settings import AlertSettings, SmtpSecurity
from common.app import create_app
from common.contracts.institutions import Institution
from common.db import Database
from log_service.main import SERVICE as LOG_SERVICE
from log_service.settings import AddressingStyle, LogSettings
from tests.api.log_service.harness import AT_ONCE_S, BUCKET, Bucket, s3_server
from tests.mail_server import MailServer, mail_server
from tests.servers import free_port, serving
from tests.waiting import PATIENCE_S
from user_service.institutions.repository import find_institution
from user_service.main import SERVICE as USER_SERVICE
from user_service.settings import RegistrationPolicy, UserSettings

PASSPHRASE = "a passphrase that is long enough for tests"
SECRETS = {
    "alert_service": "a secret of alert_service that is long enough",
    "log_service": "a secret of log_service that is long enough",
}


@dataclass
class Services:
    """The three services of one test; log_service and alert_service run once they are started."""

    folder: Path
    mails: MailServer
    bucket: Bucket
    stack: AsyncExitStack
    database_url: str
    ports: dict[str, int] = field(
        default_factory=lambda: {
            name: free_port() for name in ("user_service", "log_service", "alert_service")
        }
    )

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    async def start_user_service(self) -> None:
        settings = UserSettings(
            database_url=self.database_url,
            signing_key_passphrase=SecretStr(PASSPHRASE),
            alert_service_url=self.url("alert_service"),
            log_service_url=self.url("log_service"),
            alert_service_secret=SecretStr(SECRETS["alert_service"]),
            log_service_secret=SecretStr(SECRETS["log_service"]),
            registration=RegistrationPolicy.OPEN,
            log_level="info",
            _env_file=None,
        )
        await self._serve("user_service", create_app(USER_SERVICE, settings))

    async def start_log_service(self) -> None:
        settings = LogSettings(
            database_url=f"sqlite:///{self.folder}/logs.db",
            user_service_url=self.url("user_service"),
            service_client_secret=SecretStr(SECRETS["log_service"]),
            s3_endpoint_url=self.bucket.url,
            s3_bucket=BUCKET,
            s3_access_key_id="test",
            s3_secret_access_key=SecretStr("test"),
            s3_addressing_style=AddressingStyle.PATH,
            s3_create_bucket=True,
            archive_interval_s=AT_ONCE_S,
            log_level="error",
            _env_file=None,
        )
        await self._serve("log_service", create_app(LOG_SERVICE, settings))

    async def start_alert_service(self) -> None:
        settings = AlertSettings(
            database_url=f"sqlite:///{self.folder}/alerts.db",
            user_service_url=self.url("user_service"),
            service_client_secret=SecretStr(SECRETS["alert_service"]),
            smtp_port=self.mails.port,
            smtp_security=SmtpSecurity.NONE,
            log_level="error",
            _env_file=None,
        )
        await self._serve("alert_service", create_app(ALERT_SERVICE, settings))

    def rows(self, database: str, query: str, *values: object) -> Sequence[tuple[Any, ...]]:
        """Return what a query finds in one service's database."""
        with closing(sqlite3.connect(self.folder / database)) as connection:
            return connection.execute(query, values).fetchall()

    def change(self, statement: str, *values: object) -> None:
        """Change user_service's database behind its back."""
        with closing(sqlite3.connect(self.folder / "users.db", isolation_level=None)) as connection:
            connection.execute(statement, values)

    async def in_transaction(self, do: Callable[[AsyncSession], Awaitable[Any]]) -> Any:  # noqa: ANN401 - whatever it is
        """Do something as a request of user_service does: in one transaction."""
        database = Database(self.database_url)
        try:
            async with database.sessions.begin() as session:
                return await do(session)
        finally:
            await database.engine.dispose()

    async def institution(self, institution_id: str) -> Institution:
        """Return an institution as the services know it."""

        async def find(session: AsyncSession) -> Institution:
            row = await find_institution(session, institution_id)
            assert row is not None
            return row.as_contract()

        found = await self.in_transaction(find)
        assert isinstance(found, Institution)
        return found

    async def waiting(self) -> Sequence[tuple[Any, ...]]:
        """Return what user_service still has to tell."""
        return self.rows("users.db", "SELECT target, subject_id, last_error FROM outbox ORDER BY target")

    async def all_told(self) -> bool:
        return not await self.waiting()

    async def client(self, name: str) -> httpx.AsyncClient:
        """Return a client for one service."""
        made = httpx.AsyncClient(base_url=self.url(name), timeout=PATIENCE_S, trust_env=False)
        return await self.stack.enter_async_context(made)

    async def _serve(self, name: str, app: Any) -> None:  # noqa: ANN401 - any ASGI application
        await self.stack.enter_async_context(serving(app, lifespan="on", port=self.ports[name]))


@asynccontextmanager
async def services(folder: Path, *, database_url: str = "") -> AsyncIterator[Services]:
    """Yield the services with user_service running, on a file of its own unless it is told where."""
    (folder / "s3").mkdir()
    with s3_server(folder / "s3") as bucket:
        async with mail_server() as mails, AsyncExitStack() as stack:
            url = database_url or f"sqlite:///{folder}/users.db"
            opened = Services(folder, mails, bucket, stack, url)
            await opened.start_user_service()
            yield opened
