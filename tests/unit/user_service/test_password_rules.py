import time

import pytest

from user_service.auth.common_words import common_words
from user_service.auth.password_rules import form_fault, normalised, weakness

EMAIL = "adaokafor.adm@harbour.example"


class TestFormFault:
    @pytest.mark.parametrize(
        "password", ["tide-and-lan", "x" * 128, "correct horse", "pass\twith\ttabs", "\U0001f511" * 12]
    )
    def test_takes_twelve_to_128_characters_of_any_kind(self, password: str) -> None:
        assert form_fault(password) is None

    @pytest.mark.parametrize("password", ["", "tide-and-la", "x" * 129, "\U0001f511" * 11])
    def test_names_the_length(self, password: str) -> None:
        assert form_fault(password) == "a password has 12 to 128 characters"

    @pytest.mark.parametrize("password", ["tide-and-\x00lantern", "tide-and-\ud800lantern", "\udfff" * 12])
    def test_refuses_nul_and_half_characters(self, password: str) -> None:
        assert form_fault(password) == "a password has no NUL and no half characters"


def weakness_of(password: str, *, email: str = EMAIL, institution_name: str = "Lantern & Co.") -> str | None:
    return weakness(password, email=email, institution_name=institution_name)


class TestWeakness:
    @pytest.mark.parametrize(
        "password",
        [
            EMAIL,
            EMAIL.upper(),
            f"{EMAIL}1",
            f"my {EMAIL}",
            "adaokafor.adm",
            "AdaOkafor.Adm",
            "tide-AdaOkafor.Adm-quay",
        ],
    )
    def test_names_the_address(self, password: str) -> None:
        assert weakness_of(password) == "The password holds the e-mail address, or what is before its @."

    def test_names_the_address_with_few_characters_before_the_at_only_as_a_whole(self) -> None:
        assert weakness_of("ada@harbour.example1", email="ada@harbour.example") is not None
        assert weakness_of("armada-in-the-fog", email="ada@harbour.example") is None

    @pytest.mark.parametrize("password", ["aaaaaaaaaaaa", "121212121212", "AaAaAaAaAaAa", "abcdabcdabcd"])
    def test_names_too_few_different_characters(self, password: str) -> None:
        assert weakness_of(password) == "The password has fewer than 5 different characters."

    @pytest.mark.parametrize("password", ["abc123abc123", "x9!kQzx9!kQz", "Quay7-quay7-quay7-qu"])
    def test_names_what_is_repeated(self, password: str) -> None:
        assert weakness_of(password) == "The password repeats fewer than 12 characters."

    @pytest.mark.parametrize(
        "password",
        [
            "123456789012",
            "1234567891011",
            "Qwerty123456!",
            "qwertyuiopasdfghjkl",
            "1Qaz2Wsx3Edc",
            "112233445566",
            "abcdefgh!!!!2024",
        ],
    )
    def test_names_a_sequence(self, password: str) -> None:
        assert weakness_of(password) == "The password is little more than a sequence such as 1234 or qwerty."

    @pytest.mark.parametrize(
        "password",
        [
            "password1234",
            "Password123!",
            "PassWord1234!",
            "p@$$w0rd12345678",
            "Welcome2026!",
            "iloveyou123!",
            "1990-sunshine-12",
            "monkeydragon",
            "TrustNo1TrustNo1x",
            "correcthorsebatterystaple",
        ],
    )
    def test_names_common_words(self, password: str) -> None:
        reason = "The password is little more than common words, with digits, years or signs."

        assert weakness_of(password) == reason

    @pytest.mark.parametrize(
        "password", ["Lantern2026!!", "lantern.co.2026", "Harbour-12345", "assay-2026-assay", "4ssay!Lantern"]
    )
    def test_names_what_the_account_is_known_by(self, password: str) -> None:
        reason = "The password is little more than the name of the account, of its institution or of Assay."

        assert weakness_of(password) == reason

    @pytest.mark.parametrize(
        "password",
        [
            "tide-and-lantern-42",
            "nine green harbour cranes",
            "correct horse battery",
            "k3y-9fPq!x7a",
            "kvwzpahxmtqe",
            "tide-and-tide-and-gull",
            "пароль-у-причала",
        ],
    )
    def test_has_nothing_against_an_unusual_password(self, password: str) -> None:
        assert weakness_of(password) is None

    def test_never_holds_what_was_chosen(self) -> None:
        assert "sunshine" not in str(weakness_of("sunshine1990")).casefold()

    def test_takes_long_passwords_in_little_time(self) -> None:
        started = time.process_time()

        for password in (
            "0123456789" * 12 + "abcdefgh",
            "1q2w" * 32,
            "p4ss" * 32,
            "aaaaB" * 25,
            "0" * 127 + "x",
        ):
            weakness_of(password)

        assert time.process_time() - started < 5  # milliseconds on a quiet machine


class TestCommonWords:
    def test_are_in_lower_case_and_long_enough_to_count_less_than_their_characters(self) -> None:
        assert all(word == word.casefold() and len(word) > 2 for word in common_words())

    def test_are_many(self) -> None:
        assert len(common_words()) > 1500


class TestNormalised:
    def test_makes_one_form_of_characters_that_look_the_same(self) -> None:
        assert normalised("cafe\u0301") == "caf\u00e9"

    def test_cuts_nothing_off(self) -> None:
        assert len(normalised("x" * 1000)) == 1000
