"""One commit of decisions: the same promises on either engine."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack

import pytest
from sqlalchemy import delete
from sqlalchemy.exc import OperationalError

from ai_service.clients.alerts import TARGET as ALERT
from ai_service.scoring.decision_store import DecisionStore, SqliteDecisionStore
from ai_service.scoring.postgres_store import PostgresDecisionStore
from ai_service.scoring.record import Draft
from ai_service.scoring.repository import AlreadySaved
from ai_service.scoring.saving import LOST, NOT_TAKEN, Lost, NotTaken, Saved, SavedBatch
from ai_service.scoring.tables import decision_sequences, decisions, idempotency_keys, outbox
from ai_service.usage.service import UsageMeter
from ai_service.usage.tables import quota_warnings, usage
from common.clients.logs import TARGET as AUDIT
from common.clients.notices import TARGET as NOTICE
from common.contracts.access import OverQuota
from common.db import writing_engine
from common.db_connections import is_sqlite
from common.failpoints import FailpointError, armed
from common.outbox import LEASE_MS, Outbox
from common.postgres.commits import REPEATED, open_group_commits
from common.tenancy import of_every_tenant
from common.writer import DatabaseWriter
from tests.decision_drafts import make_draft
from tests.factories import LIVE, SANDBOX
from tests.integration.ai_service.conftest import QUOTA, Kept
from tests.waiting import PATIENCE_S

BOTH = (ALERT, AUDIT)
POINTS = [
    "decisions.after_keys",
    "decisions.after_decisions",
    "decisions.after_outbox",
    "decisions.before_commit",
]


def drafts(*transaction_ids: str) -> list[Draft]:
    return [make_draft(each) for each in transaction_ids]


def numbers(saved: SavedBatch) -> list[object]:
    return [
        entry.draft.answer["decision_sequence"] if isinstance(entry, Saved) else None
        for entry in saved.entries
    ]


class TestSave:
    async def test_numbers_what_is_new_in_its_order_for_each_institution(self, kept: Kept) -> None:
        batch = [make_draft("a"), make_draft("b", institution=LIVE), make_draft("c"), make_draft("d")]

        first = await kept.store.save(batch, {}, BOTH)
        second = await kept.store.save(drafts("e"), {}, BOTH)

        assert numbers(first) == [1, 1, 2, 3]
        assert numbers(second) == [4]
        assert {row["institution_id"]: row["last"] for row in kept.rows(decision_sequences)} == {
            SANDBOX.institution_id: 4,
            LIVE.institution_id: 1,
        }

    async def test_keeps_the_bytes_it_answers_with_and_the_facts_they_are_found_by(self, kept: Kept) -> None:
        draft = make_draft("a", flagged=True)

        (saved,) = (await kept.store.save([draft], {}, BOTH)).entries

        assert isinstance(saved, Saved)
        (row,) = kept.rows(decisions)
        (key,) = kept.rows(idempotency_keys)
        assert bytes(row["record"]) == saved.body  # type: ignore[call-overload]
        assert (row["decision_id"], row["transaction_id"], row["flagged"]) == (draft.decision_id, "a", True)
        assert row["created_at_ms"] == key["created_at_ms"] == int(draft.created_at.timestamp() * 1000)
        assert (key["decision_id"], key["body_sha256"]) == (draft.decision_id, draft.body_sha256)

    async def test_leases_the_rows_of_those_who_are_told_inline_and_leaves_the_others_to_the_relay(
        self, kept: Kept
    ) -> None:
        await kept.store.save([make_draft("a", flagged=True), make_draft("b")], {}, [AUDIT])

        rows = kept.rows(outbox)
        assert [row["target"] for row in rows] == [ALERT, AUDIT, AUDIT]
        assert [row["due_at"] - row["created_at"] for row in rows] == [0, LEASE_MS, LEASE_MS]  # type: ignore[operator]
        assert {(row["attempts"], row["last_error"]) for row in rows} == {(0, None)}

    async def test_answers_a_repeat_with_what_was_saved_and_who_is_still_to_be_told(self, kept: Kept) -> None:
        first = make_draft("a", flagged=True)
        (saved,) = (await kept.store.save([first], {}, BOTH)).entries
        await kept.store.forget({ALERT: [first.decision_id]})

        new, again = (await kept.store.save([make_draft("b"), make_draft("a")], {}, BOTH)).entries

        assert isinstance(saved, Saved)
        assert isinstance(new, Saved)
        assert again == AlreadySaved(
            first.decision_id, first.body_sha256, saved.body, flagged=True, pending=frozenset({AUDIT})
        )
        assert len(kept.rows(decisions)) == 2

    async def test_answers_a_repeat_whose_key_an_older_release_wrote(self, kept: Kept) -> None:
        first = make_draft("a")
        await kept.store.save([first], {}, BOTH)
        with kept.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE idempotency_keys SET created_at_ms = NULL")

        (again,) = (await kept.store.save(drafts("a"), {}, BOTH)).entries

        assert isinstance(again, AlreadySaved)
        assert again.decision_id == first.decision_id

    async def test_decides_once_when_a_batch_holds_a_transaction_twice(self, kept: Kept) -> None:
        batch = drafts("a", "a")

        entries = (await kept.store.save(batch, {}, BOTH)).entries

        assert sorted(type(entry).__name__ for entry in entries) == ["AlreadySaved", "Saved"]
        assert [row["decision_sequence"] for row in kept.rows(decisions)] == [1]

    async def test_takes_away_what_was_told_and_nothing_else(self, kept: Kept) -> None:
        told, untold = make_draft("a", flagged=True), make_draft("b", flagged=True)
        await kept.store.save([told, untold], {}, BOTH)

        await kept.store.save(drafts("c"), {ALERT: [told.decision_id], AUDIT: []}, BOTH)

        left = {(row["target"], row["subject_id"]) for row in kept.rows(outbox)}
        assert (ALERT, told.decision_id) not in left
        assert {(AUDIT, told.decision_id), (ALERT, untold.decision_id)} <= left
        assert len(left) == 4

    async def test_counts_the_month_and_warns_once_for_each_threshold(self, kept: Kept) -> None:
        for batch in (drafts("a"), drafts(*"bcde"), drafts(*"fgh")):
            kept.usage.committed((await kept.store.save(batch, {}, BOTH)).usage)
        repeated = await kept.store.save(drafts("a"), {}, BOTH)

        (used,) = kept.rows(usage)
        assert used["decisions"] == 8
        assert repeated.usage.totals == {}
        assert sorted(row["threshold"] for row in kept.rows(quota_warnings)) == [50, 80]  # type: ignore[type-var]
        warned = {row["warning_id"] for row in kept.rows(quota_warnings)}
        assert {row["subject_id"] for row in kept.rows(outbox) if row["target"] == NOTICE} == warned
        assert all(row["quota"] == QUOTA for row in kept.rows(quota_warnings))

    async def test_warns_of_a_quota_that_was_raised(self, kept: Kept) -> None:
        kept.usage.committed((await kept.store.save(drafts(*"abcde"), {}, BOTH)).usage)
        kept.quotas.decisions_per_month = 2 * QUOTA

        for batch in (drafts(*"fghij"), drafts(*"klmnop")):
            kept.usage.committed((await kept.store.save(batch, {}, BOTH)).usage)

        warned = sorted((row["quota"], row["threshold"]) for row in kept.rows(quota_warnings))
        assert warned == [(QUOTA, 50), (2 * QUOTA, 50), (2 * QUOTA, 80)]

    @pytest.mark.parametrize("point", POINTS)
    async def test_that_fails_at_any_point_changes_nothing_and_leaves_no_gap(
        self, kept: Kept, point: str
    ) -> None:
        told = make_draft("told")
        await kept.store.save([told], {}, BOTH)
        tables = (decisions, idempotency_keys, decision_sequences, outbox, usage)
        before = [kept.rows(table) for table in tables]

        with armed(f"{point}:error"), pytest.raises(FailpointError):
            await kept.store.save(drafts("a", "b"), {AUDIT: [told.decision_id]}, BOTH)

        assert [kept.rows(table) for table in tables] == before
        assert numbers(await kept.store.save(drafts("a"), {}, BOTH)) == [2]

    async def test_takes_no_other_along_whose_decision_is_missing(self, kept: Kept) -> None:
        await kept.store.save(drafts("a", "b"), {}, BOTH)
        with kept.engine.begin() as connection:
            missing = delete(decisions).where(decisions.c.transaction_id == "a")
            connection.execute(of_every_tenant(missing, "the test"))

        saved = await kept.store.save(drafts("c", "a", "b", "d"), {}, BOTH)

        assert numbers(saved) == [3, None, None, 4]
        assert saved.entries[1] is LOST
        assert isinstance(saved.entries[2], AlreadySaved)

    async def test_that_finds_no_table_is_what_sqlalchemy_would_raise(self, kept: Kept) -> None:
        with kept.engine.begin() as connection:
            connection.exec_driver_sql("DROP TABLE idempotency_keys")

        with pytest.raises(Exception, match="idempotency_keys") as raised:
            await kept.store.save(drafts("a"), {}, BOTH)

        assert type(raised.value).__module__ == OperationalError.__module__

    @pytest.mark.parametrize("url", ["postgresql"], indirect=True)  # SQLite has no lengths
    async def test_refuses_what_is_longer_than_its_column_rather_than_cutting_it(self, kept: Kept) -> None:
        draft = make_draft("a", body_sha256="x" * 65)

        with pytest.raises(Exception, match="too long"):
            await kept.store.save([draft], {}, BOTH)

        assert kept.rows(idempotency_keys) == []


class TestAQuotaThatBlocks:
    """Beyond it nothing is saved, whoever counts for the same institution at the same time."""

    async def test_takes_the_first_of_a_batch_and_leaves_nothing_of_the_others(self, kept: Kept) -> None:
        kept.quotas.over_quota = OverQuota.BLOCK
        told = make_draft("told")
        await kept.store.save([told], {}, BOTH)
        first = [make_draft(f"tx-{number}", flagged=True) for number in range(QUOTA + 2)]
        others = [make_draft(f"live-{number}", institution=LIVE) for number in range(3)]

        saved = await kept.store.save([*first[:6], *others, *first[6:], make_draft("told")], {}, BOTH)
        refused = await kept.store.save(drafts("late"), {AUDIT: [told.decision_id]}, BOTH)

        taken = first[: QUOTA - 1]
        assert numbers(saved) == [2, 3, 4, 5, 6, 7, 1, 2, 3, 8, 9, 10, None, None, None, None]
        assert [isinstance(entry, NotTaken) for entry in saved.entries] == [False] * 12 + [True] * 3 + [False]
        assert isinstance(saved.entries[-1], AlreadySaved)
        assert refused.entries == [NOT_TAKEN]
        expected = {draft.decision_id for draft in (told, *taken, *others)}
        check_left(kept, expected, {SANDBOX.institution_id: QUOTA, LIVE.institution_id: len(others)})
        waiting = {(row["target"], row["subject_id"]) for row in kept.rows(outbox) if row["target"] != NOTICE}
        wanted = {(AUDIT, each) for each in expected} | {(ALERT, draft.decision_id) for draft in taken}
        assert waiting == wanted - {(AUDIT, told.decision_id)}

    async def test_is_kept_over_several_connections_at_once(self, kept: Kept) -> None:
        kept.quotas.over_quota = OverQuota.BLOCK
        async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_S):
            stores = [kept.store, await another(kept, stack)]
            results = await asyncio.gather(
                *(stores[place % 2].save(mixed(place), {}, BOTH) for place in range(24))
            )
            again = await asyncio.gather(
                *(stores[place % 2 - 1].save(mixed(place), {}, BOTH) for place in range(24))
            )

        became = [entry for result in results for entry in result.entries]
        taken = {entry.draft.decision_id for entry in became if isinstance(entry, Saved)}
        assert len(taken) == 2 * QUOTA
        assert all(isinstance(entry, Saved | NotTaken) for entry in became)
        repeats = [entry for result in again for entry in result.entries]
        assert {entry.decision_id for entry in repeats if isinstance(entry, AlreadySaved)} == taken
        assert repeats.count(NOT_TAKEN) == became.count(NOT_TAKEN) == len(became) - len(taken)
        check_left(kept, taken, {SANDBOX.institution_id: QUOTA, LIVE.institution_id: QUOTA})
        assert {row["subject_id"] for row in kept.rows(outbox) if row["target"] != NOTICE} == taken
        thresholds = sorted(
            (str(row["institution_id"]), row["threshold"]) for row in kept.rows(quota_warnings)
        )
        assert thresholds == sorted(
            (each.institution_id, percent) for each in (SANDBOX, LIVE) for percent in (50, 80, 90, 100)
        )


def mixed(place: int) -> list[Draft]:
    """Return the batch of this number: up to four transactions of two institutions."""
    return [
        make_draft(f"tx-{place}-{number}", institution=(SANDBOX, LIVE)[(place + number) % 2])
        for number in range(1 + place % 4)
    ]


async def another(kept: Kept, stack: AsyncExitStack) -> DecisionStore:
    """Return a store as another process has one: what it saves the first one's meter does not hear of."""
    meter = UsageMeter(kept.quotas, Outbox(outbox))
    if is_sqlite(kept.url):
        writer = DatabaseWriter(writing_engine(kept.url))
        stack.push_async_callback(writer.close)
        return SqliteDecisionStore(writer, meter)
    return PostgresDecisionStore(await stack.enter_async_context(open_group_commits(kept.url)), meter)


def check_left(kept: Kept, decision_ids: set[str], used: dict[str, int]) -> None:
    """Assert that these decisions are there, each with its key and a number without a gap, and nothing of others."""
    rows = kept.rows(decisions)
    assert {row["decision_id"] for row in rows} == decision_ids
    assert sorted(str(row["decision_id"]) for row in kept.rows(idempotency_keys)) == sorted(decision_ids)
    assert {row["institution_id"]: row["decisions"] for row in kept.rows(usage)} == used
    assert {row["institution_id"]: row["last"] for row in kept.rows(decision_sequences)} == used
    for institution_id, count in used.items():
        ours = [row["decision_sequence"] for row in rows if row["institution_id"] == institution_id]
        assert sorted(ours) == list(range(1, count + 1))  # type: ignore[type-var]


class TestManyAtOnce:
    """Several lanes and processes that get the same transactions, each in an order of its own."""

    BATCHES = 24
    IDS = tuple(f"tx-{number}" for number in range(30))

    async def test_decide_each_transaction_once_without_a_gap_and_never_wait_for_each_other(
        self, kept: Kept
    ) -> None:
        order = random.Random(5)  # noqa: S311 - the same disorder every time
        repeated = REPEATED._value.get()

        async with asyncio.timeout(PATIENCE_S):
            results = await asyncio.gather(
                *(self._save(kept, order.sample(self.IDS, k=12), order) for _ in range(self.BATCHES))
            )

        assert REPEATED._value.get() == repeated  # nobody was chosen to give way
        rows = kept.rows(decisions)
        assert not [entry for batch in results for entry in batch.entries if entry is LOST]
        answered = {
            (entry.draft if isinstance(entry, Saved) else entry).decision_id
            for batch in results
            for entry in batch.entries
            if not isinstance(entry, NotTaken | Lost)
        }
        wanted = {(row["institution_id"], row["transaction_id"]) for row in kept.rows(idempotency_keys)}
        assert {(row["institution_id"], row["transaction_id"]) for row in rows} == wanted
        assert len(rows) == len(wanted) == len(answered)
        for institution in (SANDBOX, LIVE):
            ours = [
                row["decision_sequence"]
                for row in rows
                if row["institution_id"] == institution.institution_id
            ]
            assert sorted(ours) == list(range(1, len(ours) + 1))  # type: ignore[type-var]
        assert sum(int(str(row["decisions"])) for row in kept.rows(usage)) == len(rows)

    async def _save(self, kept: Kept, transaction_ids: Sequence[str], order: random.Random) -> SavedBatch:
        batch = [make_draft(each, institution=order.choice((SANDBOX, LIVE))) for each in transaction_ids]
        return await kept.store.save(batch, {}, BOTH)
