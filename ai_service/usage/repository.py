"""What institutions used, in the database: counted in the commit that saves the decisions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ClauseElement, Connection, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect

from ai_service.usage.tables import quota_warnings, usage
from common.bulk import PreparedStatement
from common.db import insert_ignoring_repeats
from common.tenancy import of_every_tenant, of_tenant

_LOADED = "use is loaded for all"
_RELAY = "the relay tells the warnings of all"

Month = tuple[str, str]
"""An institution and a calendar month of its."""

Given = tuple[int, int]
"""What a warning was of: a quota, and how many per cent of it were reached."""


@dataclass(frozen=True, slots=True)
class QuotaWarning:
    """What an institution is warned of: `threshold` per cent of `quota` were reached with `decisions`."""

    warning_id: str
    institution_id: str
    month: str
    threshold: int
    decisions: int
    quota: int
    over_quota: str
    created_at_ms: int


def add(connection: Connection, made: Mapping[Month, int]) -> dict[Month, int]:
    """Count what was decided in the running transaction; return the totals.

    From then on the transaction holds these rows: nobody else counts for the same institutions until it ends.
    """
    return {
        key: int(_add.run(connection, (*key, made[key])).fetchone()[0])
        for key in sorted(made)  # in one order, so that two processes never wait for each other
    }


def take_back(connection: Connection, key: Month, decisions: int) -> None:
    """Count less than `add` did, in the same transaction, which holds the row."""
    institution_id, month = key
    fewer = update(usage).where(usage.c.month == month).values(decisions=usage.c.decisions - decisions)
    connection.execute(of_tenant(institution_id, fewer))


def warn(connection: Connection, warning: QuotaWarning) -> bool:
    """Keep `warning` unless there was one of this threshold of this quota in this month; return whether it is new."""
    values = {name: getattr(warning, name) for name in quota_warnings.c.keys()}  # noqa: SIM118 - columns, not names
    insert = insert_ignoring_repeats(connection, quota_warnings).values(values)
    return connection.execute(insert.returning(quota_warnings.c.warning_id)).first() is not None


def used_since(connection: Connection, month: str) -> dict[Month, int]:
    """Return the totals of `month` and later ones."""
    query = select(usage).where(usage.c.month >= month)
    rows = connection.execute(of_every_tenant(query, _LOADED))
    return {(row.institution_id, row.month): row.decisions for row in rows}


def warned_since(connection: Connection, month: str) -> dict[Month, frozenset[Given]]:
    """Return the quotas and thresholds of which institutions were warned in `month` and later ones."""
    found: dict[Month, frozenset[Given]] = {}
    query = select(quota_warnings).where(quota_warnings.c.month >= month)
    for row in connection.execute(of_every_tenant(query, _LOADED)):
        key = (row.institution_id, row.month)
        found[key] = found.get(key, frozenset()) | {(row.quota, row.threshold)}
    return found


def find_warnings(connection: Connection, warning_ids: Sequence[str]) -> list[QuotaWarning]:
    """Return some warnings, whoever they are for; for the relay."""
    query = (
        select(quota_warnings)
        .where(quota_warnings.c.warning_id.in_(list(warning_ids)))
        .order_by(quota_warnings.c.created_at_ms, quota_warnings.c.threshold)
    )
    rows = connection.execute(of_every_tenant(query, _RELAY))
    return [QuotaWarning(**row._mapping) for row in rows]


def _adding(dialect: Dialect, _rows: int) -> ClauseElement:
    make = postgresql.insert if dialect.name == "postgresql" else sqlite.insert
    insert = make(usage)
    decisions = usage.c.decisions
    return insert.on_conflict_do_update(
        index_elements=["institution_id", "month"], set_={"decisions": decisions + insert.excluded.decisions}
    ).returning(decisions)


_add = PreparedStatement(_adding)
