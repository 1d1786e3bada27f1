"""The statements on notices, for the one who sends them."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, delete, select

from user_service.notices.tables import NoticeRow


@dataclass(frozen=True, slots=True)
class Waiting:
    """A notice that alert_service does not have yet, and the token that its mail will hold."""

    body: str
    token_id: str | None


def find(connection: Connection, notice_ids: Collection[str]) -> list[Waiting]:
    """Return these notices, oldest first."""
    query = (
        select(NoticeRow.body, NoticeRow.token_id)
        .where(NoticeRow.notice_id.in_(notice_ids))
        .order_by(NoticeRow.created_at_ms, NoticeRow.notice_id)
    )
    return [Waiting(row.body, row.token_id) for row in connection.execute(query)]


def forget(connection: Connection, notice_ids: Collection[str]) -> None:
    """Take these notices away."""
    connection.execute(delete(NoticeRow).where(NoticeRow.notice_id.in_(notice_ids)))
