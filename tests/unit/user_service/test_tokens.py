import base64
from collections.abc import Mapping

import pytest

from common.auth.gate import Expected, key_id, open_token
from common.auth.principal import Principal, UnauthenticatedError
from common.auth.signing import generate_signing_key, unlock
from common.contracts.institutions import Institution, InstitutionMode
from common.contracts.roles import SCOPES_BY_ROLE, Role
from common.contracts.tokens import Scope, TokenUse
from user_service.auth.tokens import AccessToken, TokenIssuer, digest_of, new_refresh_token
from user_service.signing_keys.ring import KeyRing, RingKey
from user_service.signing_keys.schedule import KeyTimes
from user_service.times import DAY_MS

NOW_MS = 1_800_000_000_999
INSTITUTION = Institution(institution_id="ins_1", mode=InstitutionMode.LIVE, base_currency="JPY")
PASSPHRASE = "a passphrase for tests only"


@pytest.fixture(scope="module")
def keys() -> KeyRing:
    """Three keys: one that signs from a second after NOW_MS on, the one that signs until then, and an old one."""
    made = [unlock(generate_signing_key(passphrase=PASSPHRASE), passphrase=PASSPHRASE) for _ in range(3)]
    times = [KeyTimes(0, NOW_MS + 1000), KeyTimes(0, 0, NOW_MS + 5000), KeyTimes(0, 0, NOW_MS)]
    return KeyRing([RingKey.of(key, its) for key, its in zip(made, times, strict=True)], clock=lambda: NOW_MS)


@pytest.fixture
def issuer(keys: KeyRing) -> TokenIssuer:
    return TokenIssuer(keys, issuer="us", audience="them", user_token_s=900, service_token_s=600)


async def opened(keys: KeyRing, token: str, *, now: int) -> Principal:
    key: Mapping[str, str] = await keys.find(key_id(token))
    return open_token(token, key, expected=Expected(issuer="us", audience="them"), now=now)


def user_token(
    issuer: TokenIssuer, *, role: Role = Role.VIEWER, ends_at_ms: int = NOW_MS + DAY_MS
) -> AccessToken:
    return issuer.for_user(
        "usr_1",
        role=role,
        institution=INSTITUTION,
        session_id="ses_1",
        ends_at_ms=ends_at_ms,
        now_ms=NOW_MS,
    )


class TestTokenIssuer:
    @pytest.mark.parametrize("role", Role)
    async def test_issues_user_tokens_that_the_gate_takes(
        self, issuer: TokenIssuer, keys: KeyRing, role: Role
    ) -> None:
        token = user_token(issuer, role=role)

        principal = await opened(keys, token.text, now=1_800_000_000)

        assert principal == Principal(
            use=TokenUse.USER,
            subject="usr_1",
            scopes=frozenset(scope.value for scope in SCOPES_BY_ROLE[role]),
            token_id=token.token_id,
            expires_at=1_800_000_900,
            role=role.value,
            institution=INSTITUTION,
            session_id="ses_1",
        )
        assert token.expires_in == 900

    @pytest.mark.parametrize(
        ("left_ms", "life_s"), [(900_001, 900), (899_001, 900), (899_000, 899), (1_001, 2), (1_000, 1)]
    )
    async def test_lets_a_users_token_live_no_longer_than_its_session(
        self, issuer: TokenIssuer, keys: KeyRing, left_ms: int, life_s: int
    ) -> None:
        token = user_token(issuer, ends_at_ms=NOW_MS + left_ms)

        principal = await opened(keys, token.text, now=1_800_000_000)

        assert principal.expires_at == 1_800_000_000 + token.expires_in
        assert principal.expires_at * 1000 <= NOW_MS + left_ms
        assert token.expires_in == life_s

    @pytest.mark.parametrize("scopes", [(), (Scope.GEOIP_READ, Scope.RATES_READ)])
    async def test_issues_service_tokens_that_the_gate_takes(
        self, issuer: TokenIssuer, keys: KeyRing, scopes: tuple[Scope, ...]
    ) -> None:
        token = issuer.for_service("ai_service", scopes=scopes, now_ms=NOW_MS)

        principal = await opened(keys, token.text, now=1_800_000_000)

        assert principal.use is TokenUse.SERVICE
        assert principal.subject == "ai_service"
        assert principal.scopes == set(scopes)
        assert principal.institution is None
        assert token.expires_in == 600

    async def test_lets_tokens_end(self, issuer: TokenIssuer, keys: KeyRing) -> None:
        token = issuer.for_service("ai_service", scopes=(), now_ms=NOW_MS)

        await opened(keys, token.text, now=1_800_000_599)
        with pytest.raises(UnauthenticatedError):
            await opened(keys, token.text, now=1_800_000_600)

    def test_gives_every_token_its_own_id(self, issuer: TokenIssuer) -> None:
        issued = [issuer.for_service("ai_service", scopes=(), now_ms=NOW_MS) for _ in range(2)]

        assert issued[0].token_id != issued[1].token_id

    @pytest.mark.parametrize(("later_ms", "signer"), [(0, 1), (999, 1), (1000, 0), (6000, 0)])
    def test_signs_with_the_newest_key_that_may_sign(
        self, issuer: TokenIssuer, keys: KeyRing, later_ms: int, signer: int
    ) -> None:
        token = issuer.for_service("ai_service", scopes=(), now_ms=NOW_MS + later_ms)

        assert key_id(token.text) == keys.keys[signer].key.kid


class TestKeyRing:
    async def test_finds_every_published_key_and_no_other(self, keys: KeyRing) -> None:
        published = keys.published(NOW_MS)

        found = [await keys.find(key["kid"]) for key in published]

        assert [key["kid"] for key in published] == [each.key.kid for each in keys.keys[:2]]
        assert found == list(published)
        for kid in ("other", keys.keys[2].key.kid):
            assert not keys.has(kid)
            with pytest.raises(UnauthenticatedError):
                await keys.find(kid)

    def test_signs_with_a_key_that_waits_when_there_is_no_other(self, keys: KeyRing) -> None:
        """The clock of the process that rotated at once is ahead of ours."""
        alone = KeyRing(keys.keys[:1])

        assert alone.signing(NOW_MS) == keys.keys[0].key

    def test_publishes_nothing_private(self, keys: KeyRing) -> None:
        assert {name for key in keys.published(NOW_MS) for name in key} == {
            "kty",
            "n",
            "e",
            "kid",
            "use",
            "alg",
        }


class TestRefreshTokens:
    def test_are_256_random_bits(self) -> None:
        token = new_refresh_token()

        assert len(base64.urlsafe_b64decode(token + "=")) == 32
        assert token != new_refresh_token()

    def test_are_known_by_their_digest(self) -> None:
        assert digest_of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        assert digest_of("\ud800") != digest_of("abc")
