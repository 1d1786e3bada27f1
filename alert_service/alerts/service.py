"""Takes alerts durably and once each, and shows them to the institution they belong to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from prometheus_client import Counter
from sqlalchemy import Connection, Row

from alert_service.alerts import repository
from alert_service.alerts.alert_store import AlertStore
from alert_service.alerts.repository import AlertFilter
from alert_service.alerts.schemas import Alert, AlertPage, MailState, Notification, RecipientStatus
from common.batches import Batches
from common.clock import epoch_ms
from common.contracts.alerts import AlertBatch, AlertRequest, AlertsAccepted
from common.cursors import from_cursor, to_cursor
from common.errors import NotFoundError
from common.failpoints import failpoint
from common.paging import cut
from common.replica import Reads
from common.writer import DatabaseWriter

MAX_LOGGED_IDS = 64
ACCEPTED = Counter("assay_alerts_accepted_total", "Alerts that were new.")
_log = structlog.get_logger()


class AlertInbox:
    """Accepts alerts; those that arrive together share a commit. `accepted` is called when there are new ones."""

    def __init__(self, store: AlertStore, *, max_waiting: int, accepted: Callable[[], None]) -> None:
        self._store = store
        self._accepted = accepted
        self._batches: Batches[AlertBatch, AlertsAccepted] = Batches(
            self._accept, name="alerts", lanes=1, max_batch=32, max_waiting=max_waiting
        )

    async def accept(self, batch: AlertBatch) -> AlertsAccepted:
        """Return how many alerts were new, once all of them are durable; raises `OverloadedError`."""
        return await self._batches.submit(batch)

    async def drain(self) -> None:
        """Wait until everything that was handed in is durable."""
        await self._batches.drain()

    async def _accept(self, batches: Sequence[AlertBatch]) -> Sequence[AlertsAccepted]:
        everything = [alert for batch in batches for alert in batch.alerts]
        now_ms = epoch_ms()
        failpoint("alerts.before_begin")
        fresh = await self._store.accept(everything, now_ms=now_ms)
        failpoint("alerts.after_commit")
        ACCEPTED.inc(len(fresh))
        if fresh:
            self._accepted()
        _log.info(
            "alerts.accepted",
            fresh=len(fresh),
            repeated=len(everything) - len(fresh),
            request_ids=sorted({alert.request_id for alert in everything})[:MAX_LOGGED_IDS],
        )
        return _counted(batches, fresh)


@dataclass(frozen=True)
class AlertHistory:
    """Shows alerts of one institution at a time; `lists` may be a replica that lags behind."""

    reader: DatabaseWriter
    lists: Reads

    async def alert(self, institution_id: str, alert_id: str) -> Alert:
        """Return one alert; raises `NotFoundError`."""
        found = await self.reader.run(lambda c: _one(c, institution_id, alert_id))
        if found is None:
            raise NotFoundError
        return found

    async def page(
        self, institution_id: str, wanted: AlertFilter, *, cursor: str | None, limit: int
    ) -> AlertPage:
        """Return a page of alerts, newest first; raises `CursorInvalidError`."""
        before = from_cursor(cursor)
        return await self.lists.run(lambda c: _page(c, institution_id, wanted, before=before, limit=limit))


def _counted(batches: Sequence[AlertBatch], fresh: set[str]) -> list[AlertsAccepted]:
    """Count for each caller; an alert that was handed in more than once is new only the first time."""
    left = set(fresh)
    counted = []
    for batch in batches:
        new = left & {alert.alert_id for alert in batch.alerts}
        left -= new
        counted.append(AlertsAccepted(accepted=len(new), repeated=len(batch.alerts) - len(new)))
    return counted


def _one(connection: Connection, institution_id: str, alert_id: str) -> Alert | None:
    row = repository.find_alert(connection, institution_id, alert_id)
    return None if row is None else _shown(connection, institution_id, [row])[0]


def _page(
    connection: Connection, institution_id: str, wanted: AlertFilter, *, before: int | None, limit: int
) -> AlertPage:
    found = repository.list_alerts(connection, institution_id, wanted, before=before, limit=limit + 1)
    rows, next_cursor = cut(found, limit, lambda row: to_cursor(row.number))
    return AlertPage(items=tuple(_shown(connection, institution_id, rows)), next_cursor=next_cursor)


def _shown(connection: Connection, institution_id: str, rows: Sequence[Row[Any]]) -> list[Alert]:
    told = repository.recipients_of(connection, institution_id, [row.mail_id for row in rows if row.mail_id])
    return [
        Alert(
            alert=AlertRequest.model_validate_json(row.body),
            accepted_at=_time(row.accepted_at_ms),
            notification=Notification(
                state=MailState(row.state or MailState.PENDING),
                attempts=row.attempts or 0,
                last_error=row.last_error,
                delivered_at=None if row.delivered_at_ms is None else _time(row.delivered_at_ms),
                recipients=tuple(
                    RecipientStatus(email=each.email, state=MailState(each.state), last_error=each.last_error)
                    for each in told.get(row.mail_id, [])
                ),
            ),
        )
        for row in rows
    ]


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
