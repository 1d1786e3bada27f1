"""Builds every collaborator of alert_service once.

`build` is over the house limit: it is one list of what is opened, in the order in which it is closed again.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from alert_service.alerts.alert_store import open_alert_store
from alert_service.alerts.service import AlertHistory, AlertInbox
from alert_service.notices.service import NoticeInbox
from alert_service.notifications.directory import RecipientDirectory
from alert_service.notifications.mailer import Mailer
from alert_service.notifications.postman import Postman
from alert_service.notifications.smtp import open_mail_server
from alert_service.settings import AlertSettings
from common.background import running
from common.db import open_database, writing_engine
from common.replica import open_replica
from common.service_calls import open_service_calls
from common.valkey.calls import open_shared
from common.writer import DatabaseWriter

MIGRATIONS = Path(__file__).parent / "migrations"
RECIPIENTS_TIMEOUT_S = 3.0


@asynccontextmanager
async def build(settings: AlertSettings) -> AsyncIterator[Mapping[str, Any]]:
    """Yield what requests find in `request.state`."""
    server = open_mail_server(settings)
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(
            open_database(settings.database_url, migrations=MIGRATIONS, production=settings.is_production)
        )
        writer = DatabaseWriter(writing_engine(settings.database_url))
        stack.push_async_callback(writer.close)
        history = await _history(stack, settings)
        valkey = await stack.enter_async_context(open_shared(settings))
        calls = await stack.enter_async_context(
            open_service_calls(settings, client_id="alert_service", valkey=valkey)
        )
        users = await calls.client(settings.user_service_url, timeout_s=RECIPIENTS_TIMEOUT_S)
        directory = RecipientDirectory(
            writer, users, calls.tokens, max_age_ms=round(settings.recipients_max_age_s * 1000)
        )
        postman = Postman(writer, directory, server, settings)
        mailer = Mailer(writer, postman, settings)
        store = await stack.enter_async_context(open_alert_store(settings.database_url, writer))
        inbox = AlertInbox(store, max_waiting=settings.max_waiting, accepted=mailer.news.set)
        notices = NoticeInbox(
            writer, max_waiting=settings.max_waiting, domain=settings.mail_domain, accepted=mailer.news.set
        )
        async with running(mailer.keep_leases):
            async with running(mailer.keep_sending):
                yield {
                    "inbox": inbox,
                    "notices": notices,
                    "history": history,
                    "token_verifier": calls.verifier,
                    "valkey": valkey,
                    "database": database,
                    "readiness": {
                        "database_connected": database.connected,
                        "keys_loaded": calls.keys_loaded,
                        "access_known": calls.access_known,
                    },
                }
                await inbox.drain()
                await notices.drain()
            await mailer.finish(timeout_s=settings.graceful_shutdown_s)


async def _history(stack: AsyncExitStack, settings: AlertSettings) -> AlertHistory:
    reader = DatabaseWriter(writing_engine(settings.database_url))
    stack.push_async_callback(reader.close)
    lists = await stack.enter_async_context(open_replica(settings.read_database_url, reader))
    return AlertHistory(reader, lists)
