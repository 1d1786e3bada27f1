"""The statements on identity events, for the one who tells log_service about them."""

from collections.abc import Collection

from sqlalchemy import Connection, select

from user_service.events.tables import IdentityEventRow


def bodies_of(connection: Connection, event_ids: Collection[str]) -> list[bytes]:
    """Return the bodies of these events, each institution's in order."""
    query = (
        select(IdentityEventRow.body)
        .where(IdentityEventRow.event_id.in_(event_ids))
        .order_by(IdentityEventRow.institution_id, IdentityEventRow.sequence)
    )
    return list(connection.scalars(query))
