"""The statements on identity events, for the one who tells log_service about them."""

from collections.abc import Collection

from sqlalchemy import Connection, select

from common.tenancy import of_every_tenant
from user_service.events.tables import IdentityEventRow

_RELAY = "the relay tells the events of all"


def bodies_of(connection: Connection, event_ids: Collection[str]) -> list[bytes]:
    """Return the bodies of these events, each institution's in order."""
    query = (
        select(IdentityEventRow.body)
        .where(IdentityEventRow.event_id.in_(event_ids))
        .order_by(IdentityEventRow.institution_id, IdentityEventRow.sequence)
    )
    return list(connection.scalars(of_every_tenant(query, _RELAY)))
