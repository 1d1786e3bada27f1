"""The last known recipients of each institution, in the database."""

import json

from sqlalchemy import Connection, select, update

from alert_service.notifications.tables import recipients
from common.contracts.institutions import Recipients
from common.db import insert_ignoring_repeats
from common.tenancy import of_tenant


def known_recipients(connection: Connection, institution_id: str) -> tuple[Recipients, int] | None:
    """Return the last copy of an institution's recipients and when it was fetched, in ms since 1970."""
    row = connection.execute(of_tenant(institution_id, select(recipients))).one_or_none()
    if row is None:
        return None
    found = Recipients(
        institution_id=institution_id,
        institution_name=row.institution_name,
        emails=tuple(json.loads(row.emails)),
    )
    return found, row.fetched_at_ms


def keep_recipients(connection: Connection, found: Recipients, *, now_ms: int) -> None:
    """Keep a copy of an institution's recipients, for when user_service is away."""
    values = {
        "institution_name": found.institution_name,
        "emails": json.dumps(list(found.emails)),
        "fetched_at_ms": now_ms,
    }
    written = connection.execute(of_tenant(found.institution_id, update(recipients).values(**values)))
    if written.rowcount == 0:
        connection.execute(
            insert_ignoring_repeats(connection, recipients).values(
                institution_id=found.institution_id, **values
            )
        )
