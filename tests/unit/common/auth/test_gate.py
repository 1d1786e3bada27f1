import base64
import hmac
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st

from common.auth.gate import Expected, key_id, open_token
from common.auth.principal import Principal, UnauthenticatedError
from common.auth.signing import public_jwk
from common.clock import epoch_ms
from common.contracts.tokens import Scope, TokenUse
from tests.fakes import FakeUserService, new_key, shared_key

EXPECTED = Expected(issuer="assay", audience="assay")


@pytest.fixture(scope="module")
def issuer() -> FakeUserService:
    return FakeUserService()


def opened(issuer: FakeUserService, token: str) -> Principal:
    key_id(token)
    return open_token(token, public_jwk(issuer.key), expected=EXPECTED, now=epoch_ms() // 1000)


class TestOpenToken:
    def test_returns_a_user_with_institution_and_scopes(self, issuer: FakeUserService) -> None:
        principal = opened(issuer, issuer.user_token())

        assert principal.use is TokenUse.USER
        assert principal.institution_id == "ins_test"
        assert Scope.SCORE_WRITE.value in principal.scopes

    def test_returns_a_service_without_institution(self, issuer: FakeUserService) -> None:
        principal = opened(issuer, issuer.service_token(Scope.ALERTS_WRITE))

        assert principal.institution is None

    @pytest.mark.parametrize(
        "changes",
        [
            {"exp": None},
            {"exp": "9999999999"},
            {"exp": 1e400},
            {"exp": 10**400},
            {"exp": True},
            {"exp": 1},
            {"iat": None},
            {"iat": 9_999_999_999},
            {"iss": "other"},
            {"iss": ["assay"]},
            {"aud": ["assay"]},
            {"aud": None},
            {"sub": None},
            {"sub": 7},
            {"sub": "a b"},
            {"jti": None},
            {"token_use": "refresh"},
            {"token_use": "service"},
            {"role": "root"},
            {"scope": "everything"},
            {"scope": ["score:write"]},
            {"institution_id": None},
            {"institution_mode": "real"},
            {"base_currency": "XXX"},
            {"extra": 1},
        ],
    )
    def test_refuses_odd_claims(self, issuer: FakeUserService, changes: dict[str, object]) -> None:
        with pytest.raises(UnauthenticatedError):
            opened(issuer, issuer.user_token(**changes))  # type: ignore[arg-type]

    def test_refuses_a_token_signed_by_another_key(self, issuer: FakeUserService) -> None:
        with pytest.raises(UnauthenticatedError):
            opened(issuer, FakeUserService(new_key()).user_token())

    @pytest.mark.parametrize("tail", ["=", "A", " ", "\n", "é", "\x00"])
    def test_refuses_another_spelling_of_the_signature(self, issuer: FakeUserService, tail: str) -> None:
        with pytest.raises(UnauthenticatedError):
            opened(issuer, issuer.user_token() + tail)

    @pytest.mark.parametrize("token", ["", ".", "..", "a.b", "a.b.c.d.e", "x" * 5000, "e30.e30.e30"])
    def test_refuses_what_is_no_token(self, issuer: FakeUserService, token: str) -> None:
        with pytest.raises(UnauthenticatedError):
            opened(issuer, token)


def segment(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(header: bytes, payload: bytes) -> str:
    """Sign any two byte strings with the right key, so that nothing but the gate stands in the way."""
    message = f"{segment(header)}.{segment(payload)}"
    private = load_pem_private_key(shared_key().private_pem.encode(), None)
    assert isinstance(private, RSAPrivateKey)
    return f"{message}.{segment(private.sign(message.encode(), PKCS1v15(), SHA256()))}"


def good_header() -> dict[str, Any]:
    return {"alg": "RS256", "typ": "at+jwt", "kid": shared_key().kid}


def good_claims(issuer: FakeUserService) -> dict[str, Any]:
    payload = issuer.user_token().split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=="))
    return claims


def refused(issuer: FakeUserService, token: str) -> None:
    with pytest.raises(UnauthenticatedError):
        opened(issuer, token)


class TestForgedHeaders:
    def test_a_token_signed_by_hand_is_as_good_as_any(self, issuer: FakeUserService) -> None:
        token = signed(json.dumps(good_header()).encode(), json.dumps(good_claims(issuer)).encode())

        assert opened(issuer, token).subject == "usr_test"

    @pytest.mark.parametrize(
        "changes",
        [
            {"alg": "none"},
            {"alg": "nOnE"},
            {"alg": None},
            {"alg": "HS256"},
            {"alg": "RS512"},
            {"alg": ["RS256"]},
            {"typ": None},
            {"typ": "JWT"},
            {"typ": "refresh+jwt"},
            {"typ": "AT+JWT"},
            {"kid": None},
            {"kid": 7},
            {"kid": ""},
            {"kid": "../../dev/null"},
            {"kid": "' OR 1=1--"},
            {"kid": "k" * 65},
            {"kid": ["k"]},
            {"crit": ["exp"]},
            {"b64": False},
            {"jku": "https://evil.example/keys"},
            {"x5u": "https://evil.example/cert"},
            {"x5c": ["MII"]},
            {"jwk": {"kty": "RSA"}},
            {"zip": "DEF"},
            {"cty": "JWT"},
        ],
    )
    def test_are_refused(self, issuer: FakeUserService, changes: dict[str, object]) -> None:
        header = {name: value for name, value in {**good_header(), **changes}.items() if value is not None}

        refused(issuer, signed(json.dumps(header).encode(), json.dumps(good_claims(issuer)).encode()))

    @pytest.mark.parametrize(
        "header",
        [
            b"",
            b"null",
            b"[]",
            b'"RS256"',
            b"{",
            b"\xff\xfe",
            b'\xef\xbb\xbf{"alg":"RS256"}',
            '{"alg":"RS256"}'.encode("utf-16"),
            b'{"alg":NaN}',
            b"[" * 2000,
        ],
    )
    def test_that_are_no_object_are_refused(self, issuer: FakeUserService, header: bytes) -> None:
        refused(issuer, signed(header, json.dumps(good_claims(issuer)).encode()))

    def test_with_a_name_twice_are_refused(self, issuer: FakeUserService) -> None:
        header = json.dumps(good_header()).replace("{", '{"alg":"none",', 1)

        refused(issuer, signed(header.encode(), json.dumps(good_claims(issuer)).encode()))

    def test_with_the_public_key_as_a_shared_secret_are_refused(self, issuer: FakeUserService) -> None:
        header = json.dumps({**good_header(), "alg": "HS256"}).encode()
        message = f"{segment(header)}.{segment(json.dumps(good_claims(issuer)).encode())}"
        for secret in (
            json.dumps(public_jwk(issuer.key)).encode(),
            public_jwk(issuer.key)["n"].encode(),
            b"",
        ):
            digest = hmac.digest(secret, message.encode(), "sha256")

            refused(issuer, f"{message}.{segment(digest)}")


class TestForgedPayloads:
    @pytest.mark.parametrize(
        "number", ["1e400", "-1e400", "1" + "0" * 400, "1.5", "true", "null", '"9999999999"', "NaN"]
    )
    @pytest.mark.parametrize("name", ["exp", "iat"])
    def test_with_odd_times_are_refused(self, issuer: FakeUserService, name: str, number: str) -> None:
        claims = good_claims(issuer)
        payload = json.dumps(claims).replace(f'"{name}": {claims[name]}', f'"{name}": {number}')

        refused(issuer, signed(json.dumps(good_header()).encode(), payload.encode()))

    @pytest.mark.parametrize(
        "changes",
        [
            {"exp": lambda now: now - 1},
            {"iat": lambda now: now + 61, "exp": lambda now: now + 900},
            {"exp": lambda now: now + 3601},
            {"iat": lambda now: now + 10, "exp": lambda now: now + 10},
            {"iat": lambda now: now + 20, "exp": lambda now: now + 10},
        ],
    )
    def test_outside_of_their_time_are_refused(
        self, issuer: FakeUserService, changes: dict[str, Callable[[int], int]]
    ) -> None:
        now = epoch_ms() // 1000
        claims = {**good_claims(issuer), **{name: change(now) for name, change in changes.items()}}

        refused(issuer, signed(json.dumps(good_header()).encode(), json.dumps(claims).encode()))

    def test_of_a_clock_that_is_a_little_ahead_are_taken(self, issuer: FakeUserService) -> None:
        now = epoch_ms() // 1000
        claims = {**good_claims(issuer), "iat": now + 30, "exp": now + 900}

        assert opened(issuer, signed(json.dumps(good_header()).encode(), json.dumps(claims).encode()))

    @pytest.mark.parametrize(
        "name", ["iss", "aud", "sub", "jti", "scope", "role", "token_use", "institution_id"]
    )
    @pytest.mark.parametrize("value", [None, 7, True, [], ["assay"], {}, "a\u202eb", "\ud800", "а\x00dmin"])
    def test_with_odd_claims_are_refused(self, issuer: FakeUserService, name: str, value: object) -> None:
        claims = {**good_claims(issuer), name: value}

        refused(issuer, signed(json.dumps(good_header()).encode(), json.dumps(claims).encode()))

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("iss", "assayx"),
            ("iss", "ass"),
            ("aud", "assayx"),
            ("aud", ""),
            ("sub", ""),
            ("sub", "аdmin"),
            ("role", "аdmin"),
            ("role", "ADMIN"),
            ("token_use", "refresh"),
            ("token_use", "service"),
            ("scope", "score:write  decisions:read"),
            ("scope", "score:*"),
            ("institution_id", ""),
            ("institution_id", "i" * 65),
        ],
    )
    def test_with_claims_that_are_nearly_right_are_refused(
        self, issuer: FakeUserService, name: str, value: str
    ) -> None:
        claims = {**good_claims(issuer), name: value}

        refused(issuer, signed(json.dumps(good_header()).encode(), json.dumps(claims).encode()))

    def test_with_a_claim_twice_are_refused(self, issuer: FakeUserService) -> None:
        payload = json.dumps(good_claims(issuer)).replace("{", '{"role":"viewer",', 1)

        refused(issuer, signed(json.dumps(good_header()).encode(), payload.encode()))

    @pytest.mark.parametrize(
        "payload", [b"", b"[]", b'"x"', b"[" * 2000, b"\xff", '{"iss":"assay"}'.encode("utf-16")]
    )
    def test_that_are_no_object_are_refused(self, issuer: FakeUserService, payload: bytes) -> None:
        refused(issuer, signed(json.dumps(good_header()).encode(), payload))

    def test_raised_after_signing_are_refused(self, issuer: FakeUserService) -> None:
        header, _, signature = issuer.user_token(role="viewer").split(".")
        payload = segment(json.dumps({**good_claims(issuer), "role": "admin"}).encode())

        refused(issuer, f"{header}.{payload}.{signature}")

    def test_longer_than_a_token_may_be_are_refused(self, issuer: FakeUserService) -> None:
        payload = json.dumps(good_claims(issuer)).encode() + b" " * 4000

        refused(issuer, signed(json.dumps(good_header()).encode(), payload))


class TestSpelling:
    def test_a_last_character_with_other_spare_bits_is_refused(self, issuer: FakeUserService) -> None:
        token = issuer.user_token()
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        twin = alphabet[alphabet.index(token[-1]) ^ 1]

        refused(issuer, token[:-1] + twin)

    @pytest.mark.parametrize(("safe", "standard"), [("-", "+"), ("_", "/")])
    def test_the_standard_alphabet_is_refused(
        self, issuer: FakeUserService, safe: str, standard: str
    ) -> None:
        token = issuer.user_token()
        while safe not in token.rpartition(".")[2]:
            token = issuer.user_token()

        refused(issuer, token.replace(safe, standard))

    @given(st.text(max_size=200) | st.binary(max_size=200).map(lambda data: data.decode("latin-1")))
    def test_random_text_is_refused(self, text: str) -> None:
        refused(FakeUserService(), text)

    @pytest.mark.parametrize("length", [1, 5, 9])
    def test_a_segment_of_an_impossible_length_is_refused(self, issuer: FakeUserService, length: int) -> None:
        refused(issuer, f"{'A' * length}.{'A' * length}.{'A' * length}")
