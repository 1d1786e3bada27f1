from datetime import datetime
from typing import Any

import pytest

from log_service.archive.records import MAX_RECORD_BYTES, InvalidRecordError, checked
from tests.api.log_service.harness import make_record


class TestChecked:
    def test_keeps_the_bytes_of_the_body(self) -> None:
        record = make_record(7, body='{"name":"Zoë"}')

        (kept,) = checked([record])

        assert kept.body == b'{"name":"Zo\xc3\xab"}'
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
        body = '"' + "x" * (MAX_RECORD_BYTES - 2) + '"'

        (kept,) = checked([make_record(body=body)])

        assert len(kept.body) == MAX_RECORD_BYTES

    @pytest.mark.parametrize(
        "changes",
        [
            {"sha256": "0" * 64},
            {"body": "{}\n"},
            {"body": '"' + "x" * (MAX_RECORD_BYTES - 1) + '"'},
            {"body": '"' + "é" * (MAX_RECORD_BYTES // 2) + '"'},
            {"sequence": 2**63},
            {"created_at": datetime.fromisoformat("9999-12-31T23:59:59-01:00")},
        ],
    )
    def test_names_the_place_of_what_cannot_be_kept(self, changes: dict[str, Any]) -> None:
        with pytest.raises(InvalidRecordError, match="record 1"):
            checked([make_record(1), make_record(**{"sequence": 2, **changes})])
