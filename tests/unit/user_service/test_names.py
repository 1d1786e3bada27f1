import pytest
from pydantic import TypeAdapter, ValidationError

from user_service.names import KeyName, Name

NAMES: TypeAdapter[str] = TypeAdapter(Name)
KEY_NAMES: TypeAdapter[str] = TypeAdapter(KeyName)


class TestName:
    @pytest.mark.parametrize(
        "name",
        [
            "Ada Okafor",
            "Dr. A. Smith",
            "Dr.Smith",
            "Smith Jr.",
            "J.P. Morgan & Co.",
            "J.P.Morgan",
            "A.J.van Dijk",
            "St.Gallen Bank",
            "ST.GALLEN BANK",
            "U.S. Bank",
            "Toys.R.Us",
            "Sparkasse e.V.",
            "Deutsche Bank (Frankfurt a.M.)",
            "S.A. de C.V.",
            "Banka d.o.o.",
            "Banka s.r.o.",
            "Bank sp. z o.o.",
            "Trading Co.,Ltd.",
            "No.1 Bank 2.0",
            "A/S Bank: Oslo",
            "Wait... what?",
            "Wwww Bank",
            "Soci\u00e9t\u00e9 G\u00e9n\u00e9rale S.A.",
            "\u7ea6\u7ff0\u00b7\u53f2\u5bc6\u65af",
        ],
    )
    def test_is_taken_as_people_and_banks_write_theirs(self, name: str) -> None:
        assert NAMES.validate_python(name) == name

    @pytest.mark.parametrize(
        "name",
        [
            "URGENT: your account is blocked, verify at https://evil.example/verify",
            "HTTPS://EVIL",
            "https:/evil.example",
            "www.evil",
            "WWW.Evil",
            "\uff57\uff57\uff57.evil",
            "evil.example",
            "(evil.example)",
            "Pay at evil.example.",
            "evil.example.Smith",
            "St.Gallen.example",
            "a.b.example",
            "my-bank.co.uk",
            "x.com",
            "X.com",
            "EVIL.COM",
            "t.co/x",
            "evil\uff0eexample",
            "evil\u3002example",
            "evil.xn--p1ai",
            "\u043f\u0440\u0438\u043c\u0435\u0440.\u0440\u0444",
            "10.0.0.1",
            "eve@evil",
            "eve\uff20evil",
        ],
    )
    def test_holds_no_address(self, name: str) -> None:
        with pytest.raises(ValidationError, match="a name holds no address of the web or of mail"):
            NAMES.validate_python(name)

    @pytest.mark.parametrize("name", ["", " ", "\u3000", "a\nb", "x" * 257])
    def test_is_one_line_that_is_not_blank(self, name: str) -> None:
        with pytest.raises(ValidationError):
            NAMES.validate_python(name)


class TestKeyName:
    def test_may_be_an_address(self) -> None:
        assert KEY_NAMES.validate_python("shop.example.com") == "shop.example.com"
