"""Counts decisions against the month's quota: in the commit that saves them, and in memory for who asks.

The commit has the last word, over all processes: it holds the row it counts in, and what is beyond a quota that blocks
it does not save. What a process has in memory keeps most of that from being decided in vain.
"""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Final, Never

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from ai_service.usage import repository
from ai_service.usage.policy import due_warnings, month_end, month_of, percent, seconds_left
from ai_service.usage.repository import Given, Month, QuotaWarning
from ai_service.usage.schemas import AllowedRequests, UsageReport
from common.clients.notices import TARGET
from common.clock import utc_now
from common.contracts.access import Allowance, OverQuota
from common.errors import PlatformError, UnavailableError
from common.ids import new_id
from common.outbox import Outbox, OutboxEntry
from common.rate_limits.limiting import REFUSED, Allowances
from common.writer import DatabaseWriter

REFRESH_S: Final = 3.0
_log = structlog.get_logger()
_UNBOUNDED: Final = nullcontext()


class QuotaExceededError(PlatformError):
    """The institution has used up its decisions of this month, or others are using the last ones."""

    status_code = 429
    type = "quota-exceeded"
    title = "The decisions of this month are used up"


@dataclass(frozen=True, slots=True)
class Counted:
    """What a batch came to: the new totals, how many were not taken, and what it is the first to warn of."""

    totals: Mapping[Month, int]
    beyond: Mapping[Month, int]
    warned: Mapping[Month, tuple[Given, ...]]


class UsageMeter:
    """What each institution has decided in a month.

    The database has the truth; in memory is what this process has seen of it: what its commits came to, and every few
    seconds what those of others did.
    """

    def __init__(self, allowances: Allowances, outbox: Outbox) -> None:
        self._allowances = allowances
        self._outbox = outbox
        self._used: dict[Month, int] = {}
        self._warned: dict[Month, frozenset[Given]] = {}
        self._held: dict[str, int] = {}

    def load(self, connection: Connection, *, now: datetime) -> None:
        """Read what was used and warned of before this process began."""
        self._learn(*_read(connection, now))

    def count(self, connection: Connection, made: Mapping[Month, int], *, now_ms: int) -> Counted:
        """Count decisions in the transaction that saves them, with the warnings that are due by then.

        `beyond` says how many of a quota that blocks are too many: they are not counted and must not be saved. It runs
        in the writer's thread; nothing in memory changes before `committed` is called.
        """
        totals = repository.add(connection, made)
        beyond = self.beyond(made, totals)
        for key, too_many in beyond.items():
            repository.take_back(connection, key, too_many)
            totals[key] -= too_many
        due = self.warnings_due(totals, now_ms=now_ms)
        for warning in due:
            if repository.warn(connection, warning):
                entry = OutboxEntry(TARGET, warning.warning_id)
                self._outbox.add(connection, [entry], now=now_ms, lease_ms=0)
        return counted(totals, due, beyond=beyond)

    def beyond(self, made: Mapping[Month, int], totals: Mapping[Month, int]) -> dict[Month, int]:
        """Return how many of what was `made` are more than a quota that blocks allows, where `totals` holds them."""
        found = {}
        for key, total in totals.items():
            quota = self._bound(key[0])
            if quota is not None and total > quota:
                found[key] = min(made[key], total - quota)
        return found

    def warnings_due(self, totals: Mapping[Month, int], *, now_ms: int) -> list[QuotaWarning]:
        """Return what institutions have to be warned of once `totals` are committed."""
        return [
            _warning(key, threshold, total, allowance, now_ms)
            for key, total in totals.items()
            if (allowance := self._allowances.allowance(key[0])) and allowance.decisions_per_month is not None
            for threshold in due_warnings(
                total,
                allowance.decisions_per_month,
                given=self._warned_of(key, allowance.decisions_per_month),
            )
        ]

    def committed(self, counted: Counted) -> None:
        """Take over what is durable now; batches may come in another order than they were committed in."""
        self._learn(counted.totals, counted.warned)

    def place(self, institution_id: str, *, now: datetime) -> AbstractContextManager[None]:
        """Hold one decision of the quota until the block that this is entered for ends; raises `QuotaExceededError`.

        Whoever holds a place may still decide, so this process decides no more than there is, however many come at
        once. An institution that is only warned holds none.
        """
        quota = self._bound(institution_id)
        if quota is None:
            return _UNBOUNDED
        self._hold(institution_id, quota, now)
        return _Place(self._held, institution_id)

    def none_left(self, now: datetime) -> QuotaExceededError:
        """Return what a decision is answered that its commit did not take."""
        self.refused()
        return QuotaExceededError(retry_after_s=seconds_left(now))

    async def keep_fresh(self, reader: DatabaseWriter) -> Never:
        """Learn every few seconds what other processes counted and warned of; runs until cancelled."""
        while True:
            await asyncio.sleep(REFRESH_S)
            try:
                self._learn(*await reader.run(lambda c: _read(c, utc_now())))
            except (SQLAlchemyError, PlatformError) as error:
                _log.warning("usage.not_read", error=type(error).__name__)

    def refused(self) -> None:
        """Count a request that was refused because no place was left."""
        REFUSED.labels("month").inc()

    def report(self, institution_id: str, *, now: datetime) -> UsageReport:
        """Return what an institution has used; raises `UnavailableError` while it is not known what it may use."""
        allowance = self._allowances.allowance(institution_id)
        if allowance is None:
            raise UnavailableError("What this institution may use is not known yet.")
        month = month_of(now)
        used, quota = self._used.get((institution_id, month), 0), allowance.decisions_per_month
        return UsageReport(
            month=month,
            decisions=used,
            quota=quota,
            percent=None if quota is None else percent(used, quota),
            over_quota=allowance.over_quota,
            tier=allowance.tier,
            resets_at=month_end(month),
            rate_limits=AllowedRequests(
                requests_per_second=allowance.requests_per_second,
                caller_requests_per_second=allowance.caller_requests_per_second,
            ),
        )

    def _learn(self, totals: Mapping[Month, int], warned: Mapping[Month, Iterable[Given]]) -> None:
        for key, total in totals.items():
            self._used[key] = max(total, self._used.get(key, 0))
        for key, given in warned.items():
            if given:
                self._warned[key] = self._warned.get(key, frozenset()).union(given)

    def _warned_of(self, key: Month, quota: int) -> set[int]:
        """Return the thresholds of this quota of which there was a warning."""
        return {threshold for of, threshold in self._warned.get(key, ()) if of == quota}

    def _bound(self, institution_id: str) -> int | None:
        """Return the decisions a month beyond which none is made; None where there is no such bound."""
        allowance = self._allowances.allowance(institution_id)
        if allowance is None or allowance.over_quota is not OverQuota.BLOCK:
            return None
        return allowance.decisions_per_month

    def _hold(self, institution_id: str, quota: int, now: datetime) -> None:
        used, held = self._used.get((institution_id, month_of(now)), 0), self._held.get(institution_id, 0)
        if used + held >= quota:
            if used >= quota:
                raise QuotaExceededError(retry_after_s=seconds_left(now))
            # those who hold the last ones may fail, or turn out to be repeats
            raise QuotaExceededError("The last ones are being decided.", retry_after_s=1)
        self._held[institution_id] = held + 1


def _read(
    connection: Connection, now: datetime
) -> tuple[Mapping[Month, int], Mapping[Month, frozenset[Given]]]:
    month = month_of(now)
    return repository.used_since(connection, month), repository.warned_since(connection, month)


class _Place(AbstractContextManager[None]):
    """One decision that is held, and given back at the end."""

    __slots__ = ("_held", "_institution_id")

    def __init__(self, held: dict[str, int], institution_id: str) -> None:
        self._held = held
        self._institution_id = institution_id

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        left = self._held.pop(self._institution_id) - 1
        if left:
            self._held[self._institution_id] = left


def counted(
    totals: Mapping[Month, int],
    warnings: Iterable[QuotaWarning],
    *,
    beyond: Mapping[Month, int] | None = None,
) -> Counted:
    """Return what a batch came to, with what was too many and the warnings that are due."""
    warned: dict[Month, tuple[Given, ...]] = dict.fromkeys(totals, ())
    for warning in warnings:
        warned[warning.institution_id, warning.month] += ((warning.quota, warning.threshold),)
    return Counted(totals, beyond or {}, warned)


def _warning(key: Month, threshold: int, total: int, allowance: Allowance, now_ms: int) -> QuotaWarning:
    institution_id, month = key
    return QuotaWarning(
        warning_id=new_id("ntc"),
        institution_id=institution_id,
        month=month,
        threshold=threshold,
        decisions=total,
        quota=allowance.decisions_per_month or 0,
        over_quota=allowance.over_quota.value,
        created_at_ms=now_ms,
    )
