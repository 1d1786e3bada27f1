from datetime import UTC, datetime
from typing import Any

import pytest

from common.contracts.audit_records import RecordKind
from common.contracts.institutions import InstitutionMode
from log_service.archive.records import (
    MAX_RECORD_BYTES,
    InvalidRecordError,
    NotItsRecordError,
    checked,
    refuse_others_records,
)
from tests.api.log_service.harness import make_record

WRITERS = [(RecordKind.DECISION, "ai_service"), (RecordKind.IDENTITY, "user_service")]
SERVICES = ("ai_service", "user_service", "alert_service", "operator", "")
OTHERS = [(kind, each) for kind in RecordKind for each in SERVICES if (kind, each) not in WRITERS]


class TestRefuseOthersRecords:
    @pytest.mark.parametrize(("kind", "writer"), WRITERS)
    def test_takes_each_kind_from_its_own_service(self, kind: RecordKind, writer: str) -> None:
        refuse_others_records([make_record(1, kind=kind), make_record(2, kind=kind)], writer=writer)

    @pytest.mark.parametrize(("kind", "writer"), OTHERS)
    def test_refuses_it_from_every_other(self, kind: RecordKind, writer: str) -> None:
        with pytest.raises(NotItsRecordError):
            refuse_others_records([make_record(1, kind=kind)], writer=writer)

    def test_one_among_many_is_enough(self) -> None:
        mixed = [make_record(1), make_record(1, kind=RecordKind.IDENTITY)]

        for writer in ("ai_service", "user_service"):
            with pytest.raises(NotItsRecordError):
                refuse_others_records(mixed, writer=writer)


class TestChecked:
    @pytest.mark.parametrize("kind", RecordKind)
    def test_takes_every_kind(self, kind: RecordKind) -> None:
        record = make_record(3, kind=kind)

        (kept,) = checked([record])

        assert kept.body == record.body.encode()
        assert (kept.row["kind"], kept.row["sequence"]) == (kind.value, 3)

    @pytest.mark.parametrize("kind", RecordKind)
    def test_refuses_one_kind_under_the_name_of_another(self, kind: RecordKind) -> None:
        other = next(each for each in RecordKind if each is not kind)

        with pytest.raises(InvalidRecordError, match="envelope"):
            checked([make_record(1, kind=kind).model_copy(update={"kind": other})])

    @pytest.mark.parametrize(
        ("said", "instead"),
        [
            ('"event_sequence":1', '"event_sequence":2'),
            ('"event_id":"evt_', '"event_id":"odd_'),
            ('"event":{', '"decision":{'),
            ('"created_at":"2026-11-02', '"created_at":"2026-11-03'),
        ],
    )
    def test_refuses_an_identity_record_that_says_other_things(self, said: str, instead: str) -> None:
        body = make_record(1, kind=RecordKind.IDENTITY).body
        assert said in body

        with pytest.raises(InvalidRecordError, match="envelope"):
            checked([make_record(1, kind=RecordKind.IDENTITY, body=body.replace(said, instead))])

    def test_keeps_the_bytes_of_the_body(self) -> None:
        record = make_record(7, note="Zoë")

        (kept,) = checked([record])

        assert kept.body == record.body.encode()
        assert b'"note":"Zo\xc3\xab"' in kept.body
        assert kept.record_id == record.record_id
        assert kept.row["sequence"] == 7

    @pytest.mark.parametrize(
        ("created_at", "day"),
        [
            ("2026-11-02T23:59:59.999999Z", "2026-11-02"),
            ("2026-11-03T00:00:00Z", "2026-11-03"),
            ("2026-11-02T23:30:00-01:00", "2026-11-03"),
            ("2026-11-03T00:30:00+01:00", "2026-11-02"),
        ],
    )
    def test_gives_a_record_its_utc_day(self, created_at: str, day: str) -> None:
        (kept,) = checked([make_record(created_at=datetime.fromisoformat(created_at))])

        assert kept.row["day"] == day

    def test_takes_the_longest_body(self) -> None:
        rest = MAX_RECORD_BYTES - len(make_record(note="").body.encode())

        (kept,) = checked([make_record(note="x" * rest)])

        assert len(kept.body) == MAX_RECORD_BYTES

    @pytest.mark.parametrize(
        "changes",
        [
            {"sha256": "0" * 64},
            {"body": "{}\n"},
            {"note": "x" * MAX_RECORD_BYTES},
            {"note": "é" * (MAX_RECORD_BYTES // 2)},
            {"sequence": 2**63},
            {"created_at": datetime.fromisoformat("9999-12-31T23:59:59-01:00")},
        ],
    )
    def test_names_the_place_of_what_cannot_be_kept(self, changes: dict[str, Any]) -> None:
        with pytest.raises(InvalidRecordError, match="record 1"):
            checked([make_record(1), make_record(**{"sequence": 2, **changes})])

    @pytest.mark.parametrize(
        "envelope",
        [
            {"record_id": "dec_other"},
            {"sequence": 8},
            {"institution_id": "ins_rival"},
            {"institution_mode": InstitutionMode.LIVE},
            {"created_at": datetime(2026, 11, 3, 12, 0, tzinfo=UTC)},
        ],
    )
    def test_refuses_an_envelope_that_its_body_does_not_confirm(self, envelope: dict[str, Any]) -> None:
        record = make_record(7).model_copy(update=envelope)

        with pytest.raises(InvalidRecordError, match="envelope"):
            checked([record])

    @pytest.mark.parametrize(
        ("said", "instead"),
        [
            ('"kind":"decision"', '"kind":"label"'),
            ('"decision_sequence":1', '"decision_sequence":true'),
            ('"decision_sequence":1', '"decision_sequence":1.0'),
            ('"created_at":"2026-11-02T12:00:00+00:00"', '"created_at":"2026-11-02T12:00:00"'),
            ('"created_at":"2026-11-02T12:00:00+00:00"', '"created_at":"today"'),
            ('"created_at":"2026-11-02T12:00:00+00:00"', '"created_at":1'),
            ('"institution":{', '"institution_":{'),
            ('"decision":{', '"decision":[],"decision_":{'),
        ],
    )
    def test_refuses_a_body_that_is_no_decision(self, said: str, instead: str) -> None:
        body = make_record(1).body
        assert said in body

        with pytest.raises(InvalidRecordError, match="envelope"):
            checked([make_record(1, body=body.replace(said, instead))])

    @pytest.mark.parametrize("body", ["no JSON", "null", "[]", '"text"', "{}"])
    def test_refuses_a_body_that_is_no_object(self, body: str) -> None:
        with pytest.raises(InvalidRecordError, match="envelope"):
            checked([make_record(1, body=body)])

    def test_takes_a_time_written_in_another_zone(self) -> None:
        record = make_record(created_at=datetime.fromisoformat("2026-11-02T14:00:00+02:00"))

        (kept,) = checked([record.model_copy(update={"created_at": record.created_at.astimezone(UTC)})])

        assert kept.row["day"] == "2026-11-02"
