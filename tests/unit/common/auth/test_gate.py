import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.auth.gate import Expected, key_id, open_token
from common.auth.principal import Principal, UnauthenticatedError
from common.contracts.tokens import Scope, TokenUse
from tests.fakes import FakeUserService
from tests.security.attacks import TOKENS
from tests.security.forging import Attack, Forge, forge_of, published

EXPECTED = Expected(issuer="assay", audience="assay")


@pytest.fixture(scope="module")
def issuer() -> FakeUserService:
    return FakeUserService()


@pytest.fixture(scope="module")
def forge(issuer: FakeUserService) -> Forge:
    return forge_of(issuer)


def opened(forge: Forge, token: str, *, now: int | None = None) -> Principal:
    key_id(token)
    return open_token(token, published(forge.key), expected=EXPECTED, now=now or forge.now)


def is_taken(forge: Forge, token: str, *, now: int) -> bool:
    try:
        return bool(opened(forge, token, now=now))
    except UnauthenticatedError:
        return False


def refused(forge: Forge, token: str) -> None:
    with pytest.raises(UnauthenticatedError):
        opened(forge, token)


class TestOpenToken:
    def test_returns_a_user_with_institution_and_scopes(self, forge: Forge) -> None:
        principal = opened(forge, forge.good)

        assert principal.use is TokenUse.USER
        assert principal.institution_id == "ins_test"
        assert Scope.SCORE_WRITE.value in principal.scopes

    def test_returns_a_service_without_institution(self, forge: Forge, issuer: FakeUserService) -> None:
        principal = opened(forge, issuer.service_token(Scope.ALERTS_WRITE))

        assert principal.institution is None

    def test_takes_one_that_was_signed_by_hand(self, forge: Forge) -> None:
        assert opened(forge, forge.signed(header=forge.header_bytes({}))).subject == "usr_test"

    @pytest.mark.parametrize(("ahead_s", "taken"), [(0, True), (60, True), (61, False)])
    def test_takes_one_of_a_clock_that_is_at_most_a_minute_ahead(
        self, forge: Forge, ahead_s: int, *, taken: bool
    ) -> None:
        now = forge.now
        token = forge.signed(payload=forge.claims_bytes({"iat": now + ahead_s, "exp": now + 900}))

        assert is_taken(forge, token, now=now) is taken

    @pytest.mark.parametrize(("left_s", "taken"), [(1, True), (0, False), (-1, False)])
    def test_takes_one_until_it_expires(self, forge: Forge, left_s: int, *, taken: bool) -> None:
        now = forge.now
        token = forge.signed(payload=forge.claims_bytes({"iat": now - 900, "exp": now + left_s}))

        assert is_taken(forge, token, now=now) is taken

    @pytest.mark.parametrize(("life_s", "taken"), [(3600, True), (3601, False)])
    def test_takes_none_that_lives_for_more_than_an_hour(
        self, forge: Forge, life_s: int, *, taken: bool
    ) -> None:
        now = forge.now
        token = forge.signed(payload=forge.claims_bytes({"iat": now, "exp": now + life_s}))

        assert is_taken(forge, token, now=now) is taken

    @pytest.mark.parametrize("attack", TOKENS, ids=str)
    def test_refuses_every_forged_one(self, forge: Forge, attack: Attack) -> None:
        refused(forge, attack.token(forge))

    @pytest.mark.parametrize(
        "name", ["iss", "aud", "sub", "jti", "sid", "scope", "role", "token_use", "institution_id"]
    )
    @pytest.mark.parametrize("value", [None, 7, True, [], ["assay"], {}, "a\u202eb", "\ud800", "а\x00dmin"])
    def test_refuses_odd_values_of_every_claim(self, forge: Forge, name: str, value: object) -> None:
        refused(forge, forge.signed(payload=forge.claims_bytes({name: value})))

    @given(st.text(max_size=200) | st.binary(max_size=200).map(lambda data: data.decode("latin-1")))
    def test_refuses_random_text(self, text: str) -> None:
        refused(forge_of(FakeUserService()), text)
