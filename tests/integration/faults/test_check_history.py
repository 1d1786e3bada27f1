"""The checker against real databases, a real S3 server and real mails: it finds all that is there, and all that is not."""

import gzip
from collections.abc import Iterator
from dataclasses import dataclass, replace
from email.message import EmailMessage
from pathlib import Path

import boto3
import numpy as np
import orjson
import pytest
from sqlalchemy import Table, create_engine, delete, insert, make_url, update

from ai_service.bootstrap import MIGRATIONS
from ai_service.ml.registry import load_current
from ai_service.scoring.tables import decisions, idempotency_keys, outbox
from alert_service.alerts.tables import alerts
from alert_service.notices.tables import notices
from alert_service.notifications.tables import mails
from alert_service.tables import metadata as alert_metadata
from common.canonical import canonical_bytes
from common.db import migrate
from local_stack.mailbox.store import MailStore
from log_service.archive.tables import bodies
from log_service.archive.tables import metadata as log_metadata
from tests.api.log_service.harness import s3_server
from tests.faults.check_history import check_history, main
from tests.faults.decision_evidence import Decision
from tests.faults.evidence import Pending, Scope, waiting
from tests.faults.history import write_history
from tests.faults.identity_evidence import IdentityEvent
from tests.faults.sources import Sources
from tests.models import save_test_model
from tests.notice_factories import make_notice
from tests.postgres import seeing_all
from tests.unit.faults.worlds import (
    EMAIL,
    FINE,
    FLAGGED,
    LAST,
    NOTICE,
    OURS,
    make_attempt,
    make_decision,
    make_event,
    object_key,
)
from user_service.institutions import tables as institution_tables
from user_service.outbox import table as user_outbox
from user_service.tables import Base

BUCKET = "audit-test"
SAVED = (FINE, FLAGGED, LAST)
EVENTS = (make_event(1), make_event(2))
INSTITUTION: dict[str, object] = {
    "institution_id": OURS,
    "name": "Ours",
    "mode": "sandbox",
    "base_currency": "EUR",
    "created_at_ms": 0,
    "tier": "starter",
    "over_quota": "block",
}
INVITED = "eve@assay.example"
EVENT_TABLE, NOTICE_TABLE = Base.metadata.tables["identity_events"], Base.metadata.tables["notices"]
USER_TABLE = Base.metadata.tables["users"]
assert institution_tables  # importing it declares what the events refer to
HISTORY = [make_attempt(decision) for decision in SAVED]


@dataclass(frozen=True)
class Place:
    """Where one test keeps everything."""

    sources: Sources

    def change(self, url: str, table: Table, *rows: dict[str, object]) -> None:
        self.do(url, insert(table), rows)

    def do(self, url: str, statement: object, rows: tuple[dict[str, object], ...] = ()) -> None:
        engine = create_engine(driver(url))
        with engine.begin() as connection:
            connection.execute(statement, list(rows) or None)  # type: ignore[call-overload]
        engine.dispose()

    def put(self, key: str, content: bytes) -> None:
        s3 = boto3.client(
            "s3",
            endpoint_url=self.sources.s3_endpoint_url,
            region_name="us-east-1",
            aws_access_key_id="anything",
            aws_secret_access_key="anything",
        )
        s3.put_object(Bucket=BUCKET, Key=key, Body=content)
        s3.close()

    def mail(self, text: str, *, to: str = EMAIL) -> None:
        message = EmailMessage()
        message["Message-ID"] = "<1@assay.example>"
        message["X-Envelope-To"] = to
        message.set_content(text)
        assert self.sources.mailbox is not None
        MailStore(self.sources.mailbox).save(message.as_bytes())


def driver(url: str) -> str:
    if url.startswith("sqlite"):
        return url
    return (
        make_url(seeing_all(url)).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    )


def rows_of(decision: Decision) -> tuple[dict[str, object], dict[str, object]]:
    row: dict[str, object] = {
        "decision_id": decision.decision_id,
        "institution_id": decision.institution_id,
        "decision_sequence": decision.sequence,
        "observed_sequence": decision.sequence,
        "transaction_id": decision.transaction_id,
        "customer_id": decision.customer_id,
        "event_time_ms": decision.event_time_ms,
        "created_at_ms": decision.created_at_ms,
        "outcome": decision.outcome,
        "policy_outcome": decision.policy_outcome,
        "risk_level": decision.risk_level,
        "flagged": decision.flagged,
        "schema_version": decision.schema_version,
        "record": decision.record,
    }
    key: dict[str, object] = {
        "institution_id": decision.institution_id,
        "transaction_id": decision.transaction_id,
        "body_sha256": decision.body_sha256,
        "decision_id": decision.decision_id,
        "created_at_ms": decision.key_created_at_ms,
    }
    return row, key


def alert_row(decision: Decision, *, mail_id: str | None) -> dict[str, object]:
    return {
        "alert_id": decision.alert_id,
        "institution_id": decision.institution_id,
        "institution_mode": "sandbox",
        "outcome": "decline",
        "policy_outcome": "decline",
        "accepted_at_ms": 0,
        "mail_id": mail_id,
        "body": b"{}",
    }


def mail_row(state: str) -> dict[str, object]:
    return {
        "mail_id": "mail_1",
        "institution_id": OURS,
        "message_id": "<1@assay.example>",
        "state": state,
        "attempts": 1,
        "due_at_ms": 0,
        "leased_until_ms": 0,
        "created_at_ms": 0,
    }


def user_row(email: str, *, has_joined: bool = True) -> dict[str, object]:
    user_id = f"usr_{email}"
    return {
        "user_id": user_id,
        "institution_id": OURS,
        "email": email,
        "email_key": email,
        "login_key": email if has_joined else user_id,
        "full_name": "",
        "role": "admin",
        "password_hash": "",
        "created_at_ms": 0,
    }


def event_row(event: IdentityEvent) -> dict[str, object]:
    return {
        "event_id": event.event_id,
        "institution_id": event.institution_id,
        "sequence": event.sequence,
        "created_at_ms": 0,
        "action": event.action,
        "body": event.body,
    }


def notice_row(notice_id: str) -> dict[str, object]:
    return {
        "notice_id": notice_id,
        "institution_id": OURS,
        "kind": "quota",
        "accepted_at_ms": 0,
        "sha256": "0" * 64,
        "body": b"{}",
        "secret": None,
    }


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'ai_service.db'}"


@pytest.fixture
def place(database_url: str, tmp_path: Path) -> Iterator[Place]:
    """A world in which every promise was kept."""
    (tmp_path / "s3" / BUCKET).mkdir(parents=True)
    with s3_server(tmp_path / "s3") as bucket:
        sources = Sources(
            database_url=database_url,
            s3_endpoint_url=bucket.url,
            s3_bucket=BUCKET,
            mailbox=tmp_path / "mails",
            alert_database_url=f"sqlite:///{tmp_path / 'alert_service.db'}",
            log_database_url=f"sqlite:///{tmp_path / 'log_service.db'}",
            user_database_url=f"sqlite:///{tmp_path / 'user_service.db'}",
        )
        migrate(sources.database_url, migrations=MIGRATIONS)  # with its partitions and policies
        for url, metadata in (
            (sources.alert_database_url, alert_metadata),
            (sources.log_database_url, log_metadata),
            (sources.user_database_url, Base.metadata),
        ):
            engine = create_engine(driver(url))
            metadata.create_all(engine)
            engine.dispose()
        place = Place(sources)
        for decision in SAVED:
            row, key = rows_of(decision)
            place.change(database_url, decisions, row)
            place.change(database_url, idempotency_keys, key)
        place.change(sources.alert_database_url, mails, mail_row("delivered"))
        place.change(sources.alert_database_url, alerts, alert_row(FLAGGED, mail_id="mail_1"))
        lines = b"".join(decision.record + b"\n" for decision in SAVED)
        place.put(object_key(), gzip.compress(lines))
        place.mail(f"Alert {FLAGGED.alert_id} needs attention")
        place.change(sources.user_database_url, Base.metadata.tables["institutions"], INSTITUTION)
        place.change(
            sources.user_database_url, USER_TABLE, user_row(EMAIL), user_row(INVITED, has_joined=False)
        )
        for event in EVENTS:
            place.change(sources.user_database_url, EVENT_TABLE, event_row(event))
        lines = b"".join(event.body + b"\n" for event in EVENTS)
        place.put(object_key(kind="identity", number=2), gzip.compress(lines))
        place.change(sources.alert_database_url, notices, notice_row(NOTICE.notice_id))
        told = {**mail_row("delivered"), "mail_id": "mail_2", "notice_id": NOTICE.notice_id}
        place.change(sources.alert_database_url, mails, told)
        place.mail(f"Notice: {NOTICE.notice_id}", to="somebody@else.example")
        yield place


class TestCheckHistory:
    def test_finds_nothing_where_every_promise_was_kept(self, place: Place) -> None:
        assert check_history(HISTORY, place.sources) == []
        assert check_history(HISTORY, place.sources, scope=Scope(OURS, EMAIL)) == []

    def test_finds_what_is_missing_anywhere(self, place: Place) -> None:
        lost, silent = make_decision(5), make_decision(4, flagged=True)
        row, key = rows_of(silent)
        place.change(place.sources.database_url, decisions, row)
        place.change(place.sources.database_url, idempotency_keys, key)

        found = check_history([*HISTORY, make_attempt(lost)], place.sources)

        assert {(breach.invariant, breach.ids[-1]) for breach in found} == {
            ("I1", lost.decision_id),
            ("I2", silent.decision_id),
            ("I3", silent.alert_id),
        }

    def test_finds_what_is_there_without_a_decision(self, place: Place) -> None:
        phantom = make_decision(8, flagged=True)
        place.put(f"audit/live/{OURS}/odd.ndjson.gz", gzip.compress(phantom.record))
        place.put(f"audit/live/{OURS}/broken.ndjson.gz", b"not gzip")
        place.mail(phantom.alert_id)
        place.change(place.sources.alert_database_url, alerts, alert_row(phantom, mail_id="mail_1"))

        whats = {breach.what for breach in check_history(HISTORY, place.sources)}

        assert whats == {
            "an object cannot be read",
            "archived and not saved",
            "mailed without a decision of this institution",
            "an alert without a flagged decision",
        }

    def test_finds_changed_bytes(self, place: Place) -> None:
        changed = FINE.record.replace(b"0.25", b"0.26")
        statement = (
            update(decisions).where(decisions.c.decision_id == FINE.decision_id).values(record=changed)
        )
        place.do(place.sources.database_url, statement)

        found = check_history(HISTORY, place.sources)

        assert {breach.invariant for breach in found} == {"I1", "I2"}

    def test_finds_a_key_that_is_gone(self, place: Place) -> None:
        place.do(
            place.sources.database_url,
            delete(idempotency_keys).where(idempotency_keys.c.decision_id == FINE.decision_id),
        )

        (breach,) = check_history(HISTORY, place.sources)

        assert (breach.invariant, breach.ids) == ("I5", (FINE.decision_id,))

    def test_finds_a_key_without_a_decision(self, place: Place) -> None:
        for number, institution_id in ((4, OURS), (1, "ins_others")):
            _, key = rows_of(make_decision(number, institution_id=institution_id))
            place.change(place.sources.database_url, idempotency_keys, key)

        (ours,) = check_history(HISTORY, place.sources, scope=Scope(OURS, EMAIL))
        everybodys = check_history(HISTORY, place.sources)

        assert (ours.what, ours.ids[:2]) == ("an idempotency key without a decision", ("tx-4", OURS))
        assert {breach.ids[:2] for breach in everybodys} == {("tx-4", OURS), ("tx-1", "ins_others")}

    def test_finds_a_row_that_says_otherwise_than_its_record(self, place: Place) -> None:
        ours = decisions.c.decision_id == FINE.decision_id
        changes = {"customer_id": "customer-7", "event_time_ms": 7, "risk_level": "high", "schema_version": 7}
        place.do(place.sources.database_url, update(decisions).where(ours).values(**changes))

        found = check_history(HISTORY, place.sources)

        assert {breach.what.split()[3] for breach in found} == changes.keys()

    def test_finds_mails_to_strangers(self, place: Place) -> None:
        place.mail(f"Alert {FLAGGED.alert_id} needs attention", to=f"{INVITED}, somebody@else.example")

        for scope in (Scope(), Scope(OURS, EMAIL)):
            (breach,) = check_history(HISTORY, place.sources, scope=scope)

            assert (breach.invariant, breach.what) == ("I8", "mailed to a stranger")
            assert breach.ids[2:] == (INVITED, "somebody@else.example")

    def test_finds_what_waits_anywhere(self, place: Place) -> None:
        sources = place.sources
        row = {"target": "audit", "subject_id": FINE.decision_id, "attempts": 3, "due_at": 0, "created_at": 0}
        place.change(sources.database_url, outbox, {**row, "last_error": "status 500"})
        place.change(sources.log_database_url, bodies, {"record_id": LAST.decision_id, "body": b"{}"})
        place.do(sources.alert_database_url, update(mails).values(state="pending", last_error="421 later"))
        place.change(
            sources.alert_database_url,
            alerts,
            alert_row(make_decision(2), mail_id=None) | {"alert_id": "alr_2"},
        )

        places = {breach.what for breach in check_history(HISTORY, sources) if breach.invariant == "I13"}

        assert places == {
            "still waits in: outbox audit (status 500)",
            "still waits in: spool",
            "still waits in: mail (421 later)",
            "still waits in: alert without a mail",
        }
        assert len(waiting(sources, Scope(OURS))) == 5  # the mail of the notice too
        assert waiting(sources, Scope("ins_nobody")) == [Pending("spool", "1 records", None)]

    def test_a_mail_that_nobody_takes_is_no_breach_where_it_may_be_refused(self, place: Place) -> None:
        place.do(place.sources.alert_database_url, update(mails).values(state="dead_letter"))
        assert place.sources.mailbox is not None
        for path in place.sources.mailbox.glob("*.eml"):
            path.unlink()

        assert check_history(HISTORY, place.sources, may_be_refused=True) == []
        assert {breach.invariant for breach in check_history(HISTORY, place.sources)} == {"I3"}

    def test_another_institution_is_out_of_scope(self, place: Place) -> None:
        others = make_decision(1, institution_id="ins_others")
        row, key = rows_of(replace(others, decision_id="dec_others", key_decision_id="dec_others"))
        place.change(place.sources.database_url, decisions, row)
        place.change(place.sources.database_url, idempotency_keys, key)

        assert check_history(HISTORY, place.sources, scope=Scope(OURS, EMAIL)) == []
        assert check_history(HISTORY, place.sources) != []


class TestIdentity:
    def test_finds_events_and_notices_that_were_lost(self, place: Place) -> None:
        sources = place.sources
        place.change(sources.user_database_url, EVENT_TABLE, event_row(make_event(4)))
        unmailed = {**notice_row(f"ntc_{2:026d}"), "secret": "kept"}
        place.change(sources.alert_database_url, notices, unmailed)

        found = check_history(HISTORY, sources, scope=Scope(OURS, EMAIL), registered=[OURS, "ins_lost"])

        assert {(breach.invariant, breach.what) for breach in found} == {
            ("I1", "registered without an event"),
            ("I2", "an event is not archived"),
            ("I3", "a notice has no mail"),
            ("I6", "missing numbers of events"),
        }

    def test_finds_what_user_service_still_has_to_tell(self, place: Place) -> None:
        sources = place.sources
        row = {"attempts": 3, "due_at": 0, "created_at": 0, "last_error": "status 503"}
        place.change(
            sources.user_database_url,
            user_outbox,
            {**row, "target": "audit", "subject_id": EVENTS[0].event_id},
            {**row, "target": "notices", "subject_id": "ntc_gone"},
        )
        kept = make_notice(notice_id="ntc_kept", institution_id=OURS, secret=None).model_dump_json()
        place.change(
            sources.user_database_url,
            NOTICE_TABLE,
            {"notice_id": "ntc_kept", "body": kept, "token_id": None, "created_at_ms": 0},
        )

        waits = {(each.place, each.subject_id) for each in waiting(sources, Scope(OURS))}

        assert waits == {
            ("user_service's outbox audit", EVENTS[0].event_id),
            ("user_service's outbox notices", "ntc_gone"),
            ("user_service's outbox notices", "ntc_kept"),
        }
        others = {each.subject_id for each in waiting(sources, Scope("ins_others"))}
        assert others == {"ntc_gone"}
        assert {each.invariant for each in check_history(HISTORY, sources)} == {"I13"}


class TestReplay:
    def test_finds_a_probability_that_its_features_do_not_give(self, place: Place, tmp_path: Path) -> None:
        save_test_model(tmp_path / "models")
        model = load_current(tmp_path / "models")
        features = np.full(len(model.feature_names), 0.5)
        probability = model.predict(features)
        exact, off = (
            scored(number, value, dict(zip(model.feature_names, features.tolist(), strict=True)))
            for number, value in ((1, probability), (2, float(np.nextafter(probability, 1))))
        )
        for decision in (exact, off):
            statement = (
                update(decisions)
                .where(decisions.c.transaction_id == decision.transaction_id)
                .values(record=decision.record)
            )
            place.do(place.sources.database_url, statement)

        found = check_history([], place.sources, models_dir=tmp_path / "models")

        replayed = [breach for breach in found if breach.invariant == "I7"]
        assert {breach.ids[0] for breach in replayed} == {off.decision_id, LAST.decision_id}
        assert any("decided with another model" in breach.what for breach in replayed)


class TestTheCommand:
    def test_ends_with_0_when_all_is_well(
        self, place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_history(tmp_path / "history.jsonl", HISTORY)

        status = main(arguments(place.sources, tmp_path / "history.jsonl"))

        assert status == 0
        assert capsys.readouterr().out == "3 requests, 3 decisions, 0 breaches\n"

    def test_names_each_breach_and_ends_with_1(
        self, place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_history(tmp_path / "history.jsonl", [*HISTORY, make_attempt(make_decision(5))])

        status = main(arguments(place.sources, tmp_path / "history.jsonl"))

        assert status == 1
        assert "I1: acknowledged and not saved: tx-5, dec_" in capsys.readouterr().out


def scored(number: int, probability: float, features: dict[str, float]) -> Decision:
    decision = make_decision(number)
    record = orjson.loads(decision.record)
    record["features"] = features
    record["decision"] |= {"fraud_probability": probability, "model": {"name": "test", "version": "1"}}
    return replace(decision, record=canonical_bytes(record))


def arguments(sources: Sources, history: Path) -> list[str]:
    return [
        *("--history", str(history), "--database", sources.database_url),
        *("--s3", sources.s3_endpoint_url, "--bucket", BUCKET, "--mailbox", str(sources.mailbox)),
        *("--user-database", sources.user_database_url),
        *("--alert-database", sources.alert_database_url, "--log-database", sources.log_database_url),
        *("--institution", OURS, "--email", EMAIL),
    ]
