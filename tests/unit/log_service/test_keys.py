from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.contracts.audit_records import RecordKind
from common.contracts.institutions import InstitutionMode
from log_service.archive.keys import object_key


def key_of(institution_id: str, *, number: int = 1) -> str:
    return object_key(
        mode=InstitutionMode.LIVE,
        institution_id=institution_id,
        day=date(2026, 11, 2),
        kind=RecordKind.DECISION,
        number=number,
    )


class TestObjectKey:
    def test_names_mode_institution_day_kind_and_number(self) -> None:
        key = key_of("ins_01jd3v", number=42)

        assert key == "audit/live/ins_01jd3v/2026/11/02/decision-000000000042.ndjson.gz"

    def test_sorts_by_number(self) -> None:
        keys = [key_of("ins_a", number=number) for number in (1, 9, 10, 99, 100, 10**11)]

        assert keys == sorted(keys)

    @pytest.mark.parametrize(
        ("institution_id", "segment"),
        [("..", "%2E%2E"), ("a/b", "a%2Fb"), ("a%2Fb", "a%252Fb"), ("é", "%C3%A9"), (" ", "%20")],
    )
    def test_encodes_what_could_leave_the_folder(self, institution_id: str, segment: str) -> None:
        assert key_of(institution_id).split("/")[2] == segment

    @given(st.text(min_size=1, max_size=64), st.text(min_size=1, max_size=64))
    def test_gives_each_institution_a_folder_of_its_own(self, one: str, other: str) -> None:
        same_folder = key_of(one) == key_of(other)

        assert same_folder is (one == other)
        assert key_of(one).isascii()
        assert key_of(one).count("/") == 6
