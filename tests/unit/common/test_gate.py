import pytest

from common.auth.gate import Expected, key_id, open_token
from common.auth.principal import Principal, UnauthenticatedError
from common.auth.signing import public_jwk
from common.clock import epoch_ms
from common.contracts.tokens import Scope, TokenUse
from tests.fakes import FakeUserService, new_key

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
