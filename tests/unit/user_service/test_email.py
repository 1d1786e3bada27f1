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
            "a" * 250 + "@harbour.example",
            7,
            None,
            b"ada@harbour.example",
        ],
    )
    def test_is_nothing_but_one_address(self, given: object) -> None:
        with pytest.raises(ValidationError):
            ADDRESSES.validate_python(given)


class TestEmailKey:
    def test_is_the_same_in_any_case(self) -> None:
        assert email_key("Ada@harbour.example") == email_key("ADA@harbour.example") == "ada@harbour.example"
