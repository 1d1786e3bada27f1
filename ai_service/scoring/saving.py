"""Saves decisions: one commit for a batch, with keys, numbers and outbox rows."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ClauseElement, Connection, delete, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect

from ai_service.clients.alerts import TARGET as ALERT
from ai_service.scoring.record import Draft
from ai_service.scoring.repository import AlreadySaved, pending_targets
from ai_service.scoring.tables import decision_sequences, decisions, idempotency_keys, outbox
from ai_service.usage.policy import month_of
from ai_service.usage.repository import Month
from ai_service.usage.service import Counted, UsageMeter
from common.bulk import BulkInsert, PreparedStatement, Row
from common.clients.logs import TARGET as AUDIT
from common.clock import epoch_ms
from common.failpoints import failpoint
from common.outbox import LEASE_MS, Outbox, OutboxEntry
from common.tenancy import of_every_tenant

Told = Mapping[str, Collection[str]]
_outbox = Outbox(outbox)
_IN_ONE_COMMIT = "one commit saves transactions of all; each is looked up by its institution and id"
_KEY = (idempotency_keys.c.institution_id, idempotency_keys.c.transaction_id)


@dataclass(slots=True)
class Saved:
    """A draft that was saved now: its canonical bytes."""

    draft: Draft
    body: bytes


@dataclass(frozen=True, slots=True)
class NotTaken:
    """A draft beyond its institution's quota: nothing of it was saved."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A draft whose transaction was decided before, by a decision that is not in the database any more."""


NOT_TAKEN = NotTaken()
LOST = Lost()
Became = Saved | AlreadySaved | NotTaken | Lost


@dataclass(slots=True)
class SavedBatch:
    """What became of each draft of a batch, and what its new decisions count for."""

    entries: list[Became]
    usage: Counted


def save_batch(
    connection: Connection,
    drafts: Sequence[Draft],
    told: Told,
    *,
    usage: UsageMeter,
    inline: Collection[str] = (ALERT, AUDIT),
) -> SavedBatch:
    """Write a batch in the running transaction: keys, decisions, their use, outbox rows; `told` rows go away.

    Rows of the targets in `inline` are leased to the one who tells them next; the others are the relay's at once.

    Answers each draft with what was saved, now or before. Only drafts whose key is new get a sequence number; those of
    them that are beyond a quota leave nothing behind.
    """
    forget_told(connection, told)
    new = _insert_keys(connection, drafts)
    failpoint("decisions.after_keys")
    fresh = [draft for draft in drafts if draft.decision_id in new]
    counted = usage.count(connection, made(fresh), now_ms=epoch_ms())
    if counted.beyond:
        fresh = _without_those_beyond(connection, fresh, counted.beyond)
    numbers = _take_numbers(connection, fresh)
    saved = {
        draft.decision_id: Saved(draft, draft.numbered(next(numbers[draft.accepted.institution_id])))
        for draft in fresh
    }
    _insert_decisions(connection, list(saved.values()), inline)
    repeats = [draft for draft in drafts if draft.decision_id not in new]
    earlier = _already_saved(connection, repeats) if repeats else {}
    failpoint("decisions.before_commit")
    return SavedBatch(
        [
            saved.get(draft.decision_id)
            or (NOT_TAKEN if draft.decision_id in new else decided_before(draft, earlier))
            for draft in drafts
        ],
        counted,
    )


def warm_up(connection: Connection) -> None:
    """Make the statements over many rows now, so that no payer waits for them."""
    _add_keys.warm_up(connection)
    _add_decisions.warm_up(connection)
    _outbox.warm_up(connection)


def forget_told(connection: Connection, told: Told) -> None:
    """Take away the outbox rows of what was delivered inline."""
    for target, subject_ids in told.items():
        _outbox.remove(connection, target, subject_ids)


def _insert_keys(connection: Connection, drafts: Sequence[Draft]) -> set[str]:
    """Insert the idempotency keys and return the decision ids whose key was new."""
    # in one order, so that two processes with the same ids never wait for each other
    rows = sorted(key_row(draft) for draft in drafts)
    decision_ids = {draft.decision_id for draft in drafts}
    if _add_keys.run(connection, rows) == len(rows):
        return decision_ids
    ours = idempotency_keys.c.decision_id
    query = select(ours).where(tuple_(*_KEY).in_([key_of(each) for each in drafts]))
    return set(connection.scalars(of_every_tenant(query, _IN_ONE_COMMIT))) & decision_ids


def _take_numbers(connection: Connection, fresh: Sequence[Draft]) -> dict[str, Iterator[int]]:
    """Advance each institution's sequence by its fresh drafts; a rollback takes the numbers back."""
    counts = Counter(draft.accepted.institution_id for draft in fresh)
    numbers = {}
    for institution_id, count in sorted(counts.items()):
        last = _advance.run(connection, (institution_id, count)).fetchone()[0]
        numbers[institution_id] = iter(range(last - count + 1, last + 1))
    return numbers


def made(drafts: Iterable[Draft]) -> Counter[Month]:
    """Count new decisions by institution and month."""
    return Counter(map(month_key, drafts))


def month_key(draft: Draft) -> Month:
    """Return the institution and the month that a draft counts for."""
    return draft.accepted.institution_id, month_of(draft.created_at)


def _without_those_beyond(
    connection: Connection, fresh: Sequence[Draft], beyond: Mapping[Month, int]
) -> list[Draft]:
    """Return `fresh` without the last ones of each quota that is used up, and take their keys back."""
    out = beyond_quota(fresh, beyond)
    keys = [key_of(draft) for draft in fresh if draft.decision_id in out]
    connection.execute(
        of_every_tenant(delete(idempotency_keys).where(tuple_(*_KEY).in_(keys)), _IN_ONE_COMMIT)
    )
    return [draft for draft in fresh if draft.decision_id not in out]


def beyond_quota(fresh: Sequence[Draft], beyond: Mapping[Month, int]) -> set[str]:
    """Return the decision ids of the last drafts of each month that has too many, as many as `beyond` says."""
    left = made(fresh)
    left.subtract(beyond)
    out: set[str] = set()
    for draft in fresh:
        month = month_key(draft)
        left[month] -= 1
        if left[month] < 0:
            out.add(draft.decision_id)
    return out


def _advancing(dialect: Dialect, _rows: int) -> ClauseElement:
    make = postgresql.insert if dialect.name == "postgresql" else sqlite.insert
    insert = make(decision_sequences)
    last = decision_sequences.c.last
    return insert.on_conflict_do_update(
        index_elements=["institution_id"], set_={"last": last + insert.excluded.last}
    ).returning(last)


_add_keys = BulkInsert(idempotency_keys, ignore_repeats=True)
_add_decisions = BulkInsert(decisions)
_advance = PreparedStatement(_advancing)


def _insert_decisions(connection: Connection, saved: Sequence[Saved], inline: Collection[str]) -> None:
    if not saved:
        return
    _add_decisions.run(connection, [decision_row(entry) for entry in saved])
    failpoint("decisions.after_decisions")
    now = epoch_ms()
    for target, entries in ((AUDIT, saved), (ALERT, [entry for entry in saved if entry.draft.flagged])):
        _outbox.add(
            connection,
            [OutboxEntry(target, entry.draft.decision_id) for entry in entries],
            now=now,
            lease_ms=LEASE_MS if target in inline else 0,
        )
    failpoint("decisions.after_outbox")


def key_row(draft: Draft) -> Row:
    """Return the values of a row of `idempotency_keys`, in the order of its columns."""
    return (*key_of(draft), draft.body_sha256, draft.decision_id, _created_at_ms(draft))


def decision_row(entry: Saved) -> Row:
    """Return the values of a row of `decisions`, in the order of its columns."""
    draft, answer = entry.draft, entry.draft.answer
    return (
        draft.decision_id,
        draft.accepted.institution_id,
        answer["decision_sequence"],
        draft.observed_sequence,
        draft.accepted.transaction.transaction_id,
        draft.accepted.transaction.customer_id,
        draft.accepted.event_time_us // 1000,
        _created_at_ms(draft),
        str(answer["outcome"]),
        str(answer["policy_outcome"]),
        str(answer["risk_level"]),
        draft.flagged,
        answer["schema_version"],
        entry.body,
    )


def _already_saved(connection: Connection, repeats: Sequence[Draft]) -> dict[tuple[str, str], AlreadySaved]:
    keys = idempotency_keys
    query = (
        select(keys, decisions.c.record, decisions.c.flagged)
        .join(decisions, decisions.c.decision_id == keys.c.decision_id)
        .where(tuple_(keys.c.institution_id, keys.c.transaction_id).in_([key_of(draft) for draft in repeats]))
    )
    rows = connection.execute(of_every_tenant(query, _IN_ONE_COMMIT)).all()
    pending = pending_targets(connection, [row.decision_id for row in rows])
    return {
        (row.institution_id, row.transaction_id): AlreadySaved(
            row.decision_id,
            row.body_sha256,
            row.record,
            row.flagged,
            pending.get(row.decision_id, frozenset()),
        )
        for row in rows
    }


def decided_before(draft: Draft, earlier: Mapping[tuple[str, str], AlreadySaved]) -> AlreadySaved | Lost:
    """Return the decision that `draft` repeats."""
    found: AlreadySaved | Lost = earlier.get(key_of(draft), LOST)
    return found


def key_of(draft: Draft) -> tuple[str, str]:
    """Return what a decision is found by when its transaction is sent again."""
    return draft.accepted.institution_id, draft.accepted.transaction.transaction_id


def _created_at_ms(draft: Draft) -> int:
    return int(draft.created_at.timestamp() * 1000)
