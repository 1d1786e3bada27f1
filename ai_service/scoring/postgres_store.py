"""Saves decisions on PostgreSQL: two statements between BEGIN and COMMIT, whatever the size of the batch.

Rows are locked in one order, so that no two processes wait for each other: keys, then sequences, then the month's use,
each sorted. A row of the outbox that somebody else holds is theirs, and is not waited for.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial

from ai_service.clients.alerts import TARGET as ALERT
from ai_service.scoring import postgres_statements as statements
from ai_service.scoring.record import Draft
from ai_service.scoring.repository import AlreadySaved, made_between
from ai_service.scoring.saving import (
    NOT_TAKEN,
    Saved,
    SavedBatch,
    Told,
    beyond_quota,
    decided_before,
    decision_row,
    key_of,
    key_row,
    made,
)
from ai_service.usage.service import Counted, UsageMeter, counted
from common.bulk import Row
from common.clients.logs import TARGET as AUDIT
from common.clock import epoch_ms
from common.failpoints import failpoint_async
from common.outbox import LEASE_MS
from common.postgres.commits import GroupCommits, Transaction
from common.postgres.statements import transposed


@dataclass(frozen=True)
class PostgresDecisionStore:
    """Commits batches side by side, each on a connection of its own."""

    commits: GroupCommits
    usage: UsageMeter

    async def save(self, drafts: Sequence[Draft], told: Told, inline: Collection[str]) -> SavedBatch:
        """Commit `drafts`; see `DecisionStore`. What turns out to be beyond a quota is left out of another try."""
        left_out: set[str] = set()
        while True:
            taken = [draft for draft in drafts if draft.decision_id not in left_out]
            try:
                batch = await self.commits.run(partial(self._save, drafts=taken, told=told, inline=inline))
            except _BeyondQuotaError as error:
                left_out |= error.decision_ids
                continue
            became = iter(batch.entries)
            entries = [NOT_TAKEN if draft.decision_id in left_out else next(became) for draft in drafts]
            return SavedBatch(entries, batch.usage)

    async def forget(self, told: Told) -> None:
        """Take away the outbox rows of what was `told`."""
        await self.commits.run(
            lambda running: running.fetch_for(statements.FORGET, "told", statements.TOLD, _told_rows(told))
        )

    async def connected(self) -> bool:
        """Readiness: whether its own connections reach a server that takes writes."""
        return await self.commits.connected()

    async def _save(
        self, running: Transaction, drafts: Sequence[Draft], told: Told, inline: Collection[str]
    ) -> SavedBatch:
        saved = await _numbered(running, drafts)
        usage = await self._kept(running, list(saved.values()), told, inline)
        repeats = [draft for draft in drafts if draft.decision_id not in saved]
        earlier = await _already_saved(running, repeats) if repeats else {}
        await failpoint_async("decisions.before_commit")
        return SavedBatch(
            [saved.get(draft.decision_id) or decided_before(draft, earlier) for draft in drafts], usage
        )

    async def _kept(
        self, running: Transaction, saved: Sequence[Saved], told: Told, inline: Collection[str]
    ) -> Counted:
        """Write the decisions, what has to be told of them and what they count for; `told` rows go away."""
        now = epoch_ms()
        fresh = [entry.draft for entry in saved]
        used = made(fresh)
        rows = await running.fetch(
            statements.KEEP,
            **transposed("made", statements.MADE, [decision_row(entry) for entry in saved]),
            **transposed("waiting", statements.WAITING, list(_waiting_rows(saved, inline, now=now))),
            **transposed("used", statements.USED, [(*month, count) for month, count in used.items()]),
            **transposed("told", statements.TOLD, _told_rows(told)),
        )
        if saved:
            await failpoint_async("decisions.after_decisions")
            await failpoint_async("decisions.after_outbox")
        totals = {(row["institution_id"], row["month"]): int(row["decisions"]) for row in rows}
        if beyond := self.usage.beyond(used, totals):
            raise _BeyondQuotaError(beyond_quota(fresh, beyond))
        due = self.usage.warnings_due(totals, now_ms=now)
        if due:
            warned = [statements.warning_row(warning) for warning in due]
            await running.fetch_for(statements.WARN, "warned", statements.WARNED, warned)
        return counted(totals, due)


class _BeyondQuotaError(Exception):
    """Nothing was committed: these decisions are more than a quota allows."""

    def __init__(self, decision_ids: Set[str]) -> None:
        super().__init__()
        self.decision_ids = decision_ids


async def _numbered(running: Transaction, drafts: Sequence[Draft]) -> dict[str, Saved]:
    """Insert the keys and number the drafts whose key was new, in their order; a rollback takes the numbers back."""
    taken = await running.fetch_for(
        statements.TAKE, "asked", statements.ASKED, [key_row(draft) for draft in drafts]
    )
    await failpoint_async("decisions.after_keys")
    last = {row["decision_id"]: int(row["last"]) for row in taken}
    fresh = [draft for draft in drafts if draft.decision_id in last]
    left = Counter(draft.accepted.institution_id for draft in fresh)
    saved: dict[str, Saved] = {}
    for draft in fresh:
        left[draft.accepted.institution_id] -= 1
        number = last[draft.decision_id] - left[draft.accepted.institution_id]
        saved[draft.decision_id] = Saved(draft, draft.numbered(number))
    return saved


def _waiting_rows(saved: Sequence[Saved], inline: Collection[str], *, now: int) -> Iterator[Row]:
    for target, entries in ((AUDIT, saved), (ALERT, [entry for entry in saved if entry.draft.flagged])):
        due_at = now + (LEASE_MS if target in inline else 0)
        for entry in entries:
            yield (target, entry.draft.decision_id, due_at, now)


def _told_rows(told: Told) -> list[Row]:
    return [(target, decision_id) for target, decision_ids in told.items() for decision_id in decision_ids]


async def _already_saved(
    running: Transaction, repeats: Sequence[Draft]
) -> Mapping[tuple[str, str], AlreadySaved]:
    keys = await running.fetch_for(
        statements.FIND_KEYS, "wanted", statements.WANTED, [key_of(draft) for draft in repeats]
    )
    decision_ids = [key["decision_id"] for key in keys]
    since, until = made_between(key["created_at_ms"] for key in keys)
    rows = await running.fetch(
        statements.FIND_DECISIONS, decision_ids=decision_ids, since_ms=since, until_ms=until
    )
    found = {row["decision_id"]: row for row in rows}
    return {
        (key["institution_id"], key["transaction_id"]): AlreadySaved(
            decision_id=key["decision_id"],
            body_sha256=key["body_sha256"],
            body=found[key["decision_id"]]["record"],
            flagged=found[key["decision_id"]]["flagged"],
            pending=frozenset(found[key["decision_id"]]["pending"]),
        )
        for key in keys
        if key["decision_id"] in found
    }
