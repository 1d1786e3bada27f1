import unicodedata

import pytest
from pydantic import TypeAdapter, ValidationError

from user_service.users.email import EmailAddress, email_key

ADDRESSES: TypeAdapter[str] = TypeAdapter(EmailAddress)


class TestEmailAddress:
    @pytest.mark.parametrize(
        ("given", "taken"),
        [
            ("Ada@Harbour.Example", "Ada@harbour.example"),
            ("ada+fraud@harbour.example", "ada+fraud@harbour.example"),
            ("zoe\u0308@harbour.example", "zo\u00eb@harbour.example"),
        ],
    )
    def test_is_taken_in_one_form(self, given: str, taken: str) -> None:
        assert ADDRESSES.validate_python(given) == taken

    @pytest.mark.parametrize(
        "given",
        [
            "",
            "ada",
            "ada@",
            "@harbour.example",
            "ada@localhost",
            " ada@harbour.example",
            "Ada <ada@harbour.example>",
            "ada@harbour.example\nBcc: eve@harbour.example",
            "ada@harbour.example\x00",
            "ada@harbour.example,eve@harbour.example",
            "\ud800@harbour.example",
            "\u212aate@harbour.example",
            "kate@\u212aarbour.example",
            "\u212bke@harbour.example",
            "\ufb01ona@harbour.example",
            "\uff41da@harbour.example",
            "ada\uff20harbour.example",
            "a" * 250 + "@harbour.example",
            7,
            None,
            b"ada@harbour.example",
        ],
    )
    def test_is_nothing_but_one_address(self, given: object) -> None:
        with pytest.raises(ValidationError):
            ADDRESSES.validate_python(given)

    def test_says_what_is_wrong_with_characters_that_stand_for_others(self) -> None:
        with pytest.raises(ValidationError, match="holds a character that only looks like others"):
            ADDRESSES.validate_python("\u212aate@harbour.example")


class TestEmailKey:
    def test_is_the_same_in_any_case(self) -> None:
        assert email_key("Ada@harbour.example") == email_key("ADA@harbour.example") == "ada@harbour.example"

    @pytest.mark.parametrize("address", ["H\u0331ana@harbour.example", "\u1e96ana@harbour.example"])
    def test_is_the_same_where_only_the_small_letter_is_one_character(self, address: str) -> None:
        assert email_key(ADDRESSES.validate_python(address)) == "\u1e96ana@harbour.example"

    def test_is_not_shared_by_addresses_that_differ_in_more_than_their_case(self) -> None:
        taken: dict[str, set[str]] = {}
        for number in range(0x20, 0x20000):
            character = chr(number)
            if unicodedata.normalize("NFKC", character) == character and not 0xD800 <= number < 0xE000:
                taken.setdefault(email_key(character), set()).add(character)

        assert [each for each in taken.values() if len(each) > 2] == []
