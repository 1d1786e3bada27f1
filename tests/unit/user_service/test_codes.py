import base64
from urllib.parse import urlsplit

import pytest

from user_service.second_factors.codes import (
    enrolment_uri,
    matching_step,
    new_recovery_codes,
    new_secret,
    plain,
)

# the secret of RFC 6238's appendix B; its codes have eight digits there, of which the last six are ours
RFC_SECRET = base64.b32encode(b"12345678901234567890").decode()
RFC_CODES = [
    (59, "287082"),
    (1_111_111_109, "081804"),
    (1_111_111_111, "050471"),
    (1_234_567_890, "005924"),
    (2_000_000_000, "279037"),
    (20_000_000_000, "353130"),
]


class TestMatchingStep:
    @pytest.mark.parametrize(("second", "code"), RFC_CODES)
    def test_finds_the_codes_of_the_rfc(self, second: int, code: str) -> None:
        assert matching_step(RFC_SECRET, code, now_ms=second * 1000) == second // 30

    @pytest.mark.parametrize("drift_s", [-30, 0, 30])
    def test_takes_the_code_before_and_after(self, drift_s: int) -> None:
        second, code = RFC_CODES[1]

        assert matching_step(RFC_SECRET, code, now_ms=(second + drift_s) * 1000) == second // 30

    @pytest.mark.parametrize("drift_s", [-60, 60, 90])
    def test_takes_no_other(self, drift_s: int) -> None:
        second, code = RFC_CODES[1]

        assert matching_step(RFC_SECRET, code, now_ms=(second + drift_s) * 1000) is None

    @pytest.mark.parametrize("shown", ["081 804", " 081804 ", "081-804"])
    def test_takes_what_people_put_in_between(self, shown: str) -> None:
        assert matching_step(RFC_SECRET, shown, now_ms=1_111_111_109_000) is not None

    @pytest.mark.parametrize("shown", ["", "81804", "0818040", "08180४", "\ud800", "081804\x00", "abcdef"])
    def test_takes_no_other_text(self, shown: str) -> None:
        assert matching_step(RFC_SECRET, shown, now_ms=1_111_111_109_000) is None


class TestNewSecret:
    def test_has_160_bits_and_is_another_each_time(self) -> None:
        secrets = {new_secret() for _ in range(50)}

        assert len(secrets) == 50
        assert {len(base64.b32decode(secret)) for secret in secrets} == {20}


class TestEnrolmentUri:
    def test_leaves_nothing_of_an_address_to_be_read_as_something_else(self) -> None:
        uri = enrolment_uri(RFC_SECRET, email="a&issuer=x?secret=y#@h.example")

        assert urlsplit(uri).query == f"secret={RFC_SECRET}&issuer=Assay"


class TestRecoveryCodes:
    def test_are_ten_that_differ(self) -> None:
        codes = new_recovery_codes()

        assert len(set(codes)) == 10
        assert {len(plain(code)) for code in codes} == {12}

    def test_are_read_in_any_case_and_with_any_gaps(self) -> None:
        assert plain("H4KZ7M 3qwp9d") == plain("h4kz7m-3qwp9d") == "h4kz7m3qwp9d"

    def test_are_never_taken_for_a_code_of_six_digits(self) -> None:
        assert all(len(plain(code)) != 6 for code in new_recovery_codes())
