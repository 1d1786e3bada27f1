"""What commands on the machine itself share: the service's settings and its database, and errors in one line."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import typer
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from common.clock import epoch_ms
from common.db import Database, open_database
from common.errors import PlatformError, StartupError
from common.logging import configure_logging
from common.settings import load_settings
from user_service.institutions.platform import make_platform
from user_service.settings import UserSettings
from user_service.signing_keys.store import KeyStore
from user_service.tables import MIGRATIONS

ResultT = TypeVar("ResultT")


@asynccontextmanager
async def prepared_database(settings: UserSettings) -> AsyncIterator[Database]:
    """Open the service's database, also one that it was never started with; raises `StartupError`."""
    async with open_database(
        settings.database_url, migrations=MIGRATIONS, production=settings.is_production
    ) as database:
        async with database.sessions.begin() as session:
            await make_platform(session, now_ms=epoch_ms())
        # raises for another passphrase than the service's: what is made with that would be worth nothing
        await KeyStore(database, settings.signing_key_passphrase.get_secret_value()).open(now_ms=epoch_ms())
        yield database


def run(command: Callable[[UserSettings, Database], Awaitable[ResultT]]) -> ResultT:
    """Run `command` with the settings and the database of user_service; what is expected to fail ends it with 1."""
    configure_logging(service="user_service", level="error", json_lines=True)
    try:
        settings = load_settings(UserSettings)
        return asyncio.run(_run(command, settings))
    except ValidationError as error:
        names = ", ".join(".".join(map(str, found["loc"])).upper() or "settings" for found in error.errors())
        _end(f"These settings are wrong: {names}")
    except (StartupError, PlatformError) as error:
        _end(str(error))
    except SQLAlchemyError as error:
        _end(f"The database does not answer: {type(error).__name__}")
    raise typer.Exit(1)


async def _run(
    command: Callable[[UserSettings, Database], Awaitable[ResultT]], settings: UserSettings
) -> ResultT:
    async with prepared_database(settings) as database:
        return await command(settings, database)


def _end(reason: str) -> None:
    typer.echo(reason, err=True)
