"""The statements of a commit on PostgreSQL, made of the tables; each takes any number of rows as arrays.

Statements inside a statement see the rows as they were before all of them: none reads what another writes, unless
it reads what that one returns.
"""

from typing import Any

from sqlalchemy import ARRAY, CTE, Select, String, any_, bindparam, delete, func, literal, select, tuple_
from sqlalchemy.dialects.postgresql import insert

from ai_service.clients.alerts import TARGET as ALERT
from ai_service.scoring.tables import decision_sequences, decisions, idempotency_keys, outbox
from ai_service.usage.repository import QuotaWarning
from ai_service.usage.tables import quota_warnings, usage
from common.bulk import Row
from common.clients.logs import TARGET as AUDIT
from common.clients.notices import TARGET as NOTICE
from common.postgres.statements import Statement, unnested
from common.tenancy import of_every_tenant

_IN_ONE_COMMIT = "one commit saves transactions of all; each is looked up by its institution and id"
ASKED = tuple(idempotency_keys.c)
MADE = tuple(decisions.c)
WAITING = (outbox.c.target, outbox.c.subject_id, outbox.c.due_at, outbox.c.created_at)
USED = tuple(usage.c)
TOLD = (outbox.c.target, outbox.c.subject_id)
WARNED = tuple(quota_warnings.c)
WANTED = (idempotency_keys.c.institution_id, idempotency_keys.c.transaction_id)


def warning_row(warning: QuotaWarning) -> Row:
    """Return the values of a row of `quota_warnings`, in the order of its columns."""
    return tuple(getattr(warning, each.name) for each in WARNED)


def _taking() -> Select[str, int]:
    """Insert keys; for those that are new, advance their institutions' sequences by as many."""
    asked = unnested("asked", ASKED)
    keys = (
        insert(idempotency_keys)
        .from_select(
            [each.name for each in ASKED],
            select(*asked.c).order_by(asked.c.institution_id, asked.c.transaction_id),
        )
        .on_conflict_do_nothing()
        .returning(idempotency_keys.c.institution_id, idempotency_keys.c.decision_id)
        .cte("fresh")
    )
    made = (
        select(keys.c.institution_id, func.count().label("last"))
        .group_by(keys.c.institution_id)
        .order_by(keys.c.institution_id)
    )
    advancing = insert(decision_sequences).from_select(["institution_id", "last"], made)
    numbered = (
        advancing.on_conflict_do_update(
            index_elements=["institution_id"],
            set_={"last": decision_sequences.c.last + advancing.excluded.last},
        )
        .returning(decision_sequences.c.institution_id, decision_sequences.c.last)
        .cte("numbered")
    )
    return select(keys.c.decision_id, numbered.c.last).join(
        numbered, numbered.c.institution_id == keys.c.institution_id
    )


def _forgetting() -> CTE:
    """Delete rows of the outbox; one that the relay has in its hands is left to it."""
    told = unnested("told", TOLD)
    ours = (
        select(outbox.c.target, outbox.c.subject_id)
        .join(told, (told.c.target == outbox.c.target) & (told.c.subject_id == outbox.c.subject_id))
        .with_for_update(of=outbox, skip_locked=True)
        .cte("ours")
        .prefix_with("MATERIALIZED")
    )
    return (
        delete(outbox)
        .where(tuple_(outbox.c.target, outbox.c.subject_id).in_(select(ours.c.target, ours.c.subject_id)))
        .returning(outbox.c.subject_id)
        .cte("gone")
    )


def _keeping() -> Select[str, str, int]:
    made, waiting, used = unnested("made", MADE), unnested("waiting", WAITING), unnested("used", USED)
    kept = insert(decisions).from_select([each.name for each in MADE], select(*made.c)).cte("kept")
    to_tell = (
        insert(outbox)
        .from_select([*(each.name for each in WAITING), "attempts"], select(*waiting.c, literal(0)))
        .cte("to_tell")
    )
    counting = insert(usage).from_select(
        [each.name for each in USED], select(*used.c).order_by(used.c.institution_id, used.c.month)
    )
    counted = (
        counting.on_conflict_do_update(
            index_elements=["institution_id", "month"],
            set_={"decisions": usage.c.decisions + counting.excluded.decisions},
        )
        .returning(usage.c.institution_id, usage.c.month, usage.c.decisions)
        .cte("counted")
    )
    return select(counted.c.institution_id, counted.c.month, counted.c.decisions).add_cte(
        kept, to_tell, _forgetting()
    )


def _warning() -> Select[str]:
    """Keep the warnings that are the first of their kind, and have them told."""
    warned = unnested("warned", WARNED)
    first = (
        insert(quota_warnings)
        .from_select(
            [each.name for each in WARNED],
            select(*warned.c).order_by(warned.c.institution_id, warned.c.month, warned.c.threshold),
        )
        .on_conflict_do_nothing()
        .returning(quota_warnings.c.warning_id, quota_warnings.c.created_at_ms)
        .cte("first")
    )
    at = first.c.created_at_ms
    to_tell = (
        insert(outbox)
        .from_select(
            ["target", "subject_id", "attempts", "due_at", "created_at"],
            select(literal(NOTICE), first.c.warning_id, literal(0), at, at.label("created_at")),
        )
        .cte("to_tell")
    )
    return select(first.c.warning_id).add_cte(to_tell)


def _finding_keys() -> Select[*tuple[Any, ...]]:
    keys, wanted = idempotency_keys.c, unnested("wanted", WANTED)
    query = select(idempotency_keys).join(
        wanted,
        (wanted.c.institution_id == keys.institution_id) & (wanted.c.transaction_id == keys.transaction_id),
    )
    return of_every_tenant(query, _IN_ONE_COMMIT)


def _finding_decisions() -> Select[str, bytes, bool, list[str]]:
    """Look decisions up, with the targets that still have to be told of each."""
    pending = select(outbox.c.target).where(
        outbox.c.target == any_(literal([ALERT, AUDIT], ARRAY(String()))),
        outbox.c.subject_id == decisions.c.decision_id,
    )
    query = select(
        decisions.c.decision_id,
        decisions.c.record,
        decisions.c.flagged,
        func.array(pending.correlate(decisions).scalar_subquery()).label("pending"),
    ).where(
        decisions.c.decision_id == any_(bindparam("decision_ids", type_=ARRAY(String()))),
        decisions.c.created_at_ms.between(bindparam("since_ms"), bindparam("until_ms")),
    )
    return of_every_tenant(query, _IN_ONE_COMMIT)


TAKE = Statement(_taking())
KEEP = Statement(_keeping())
FORGET = Statement(select(_forgetting().c.subject_id))
WARN = Statement(_warning())
FIND_KEYS = Statement(_finding_keys())
FIND_DECISIONS = Statement(_finding_decisions())
