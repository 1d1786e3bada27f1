import pytest

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


class TestWeakness:
    @pytest.mark.parametrize("password", [EMAIL, EMAIL.upper(), "adaokafor.adm", "AdaOkafor.Adm"])
    def test_names_the_address(self, password: str) -> None:
        assert weakness(password, email=EMAIL) == "The password is the e-mail address."

    @pytest.mark.parametrize("password", ["aaaaaaaaaaaa", "121212121212", "AaAaAaAaAaAa", "abcdabcdabcd"])
    def test_names_too_few_different_characters(self, password: str) -> None:
        assert weakness(password, email=EMAIL) == "The password has fewer than 5 different characters."

    @pytest.mark.parametrize(
        "password", ["password1234", "PassWord1234", "qwertyuiopasdfghjkl", "123456789012"]
    )
    def test_names_what_is_tried_first(self, password: str) -> None:
        assert weakness(password, email=EMAIL) == "The password is one of those that are tried first."

    def test_has_nothing_against_an_unusual_password(self) -> None:
        assert weakness("tide-and-lantern-42", email=EMAIL) is None


class TestNormalised:
    def test_makes_one_form_of_characters_that_look_the_same(self) -> None:
        assert normalised("cafe\u0301") == "caf\u00e9"

    def test_cuts_nothing_off(self) -> None:
        assert len(normalised("x" * 1000)) == 1000
