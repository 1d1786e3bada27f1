from common.auth.gate import Expected, key_id
from common.auth.keys import TokenVerifier
from common.contracts.tokens import Scope, TokenUse
from tests.fakes import new_key, shared_key
from user_service.auth.own_token import OwnToken
from user_service.auth.tokens import TokenIssuer
from user_service.signing_keys.ring import KeyRing, RingKey
from user_service.signing_keys.schedule import KeyTimes

LIFE_S = 900


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def own_keys() -> KeyRing:
    return KeyRing([RingKey.of(shared_key(), KeyTimes(0, 0))])


def made(keys: KeyRing) -> tuple[OwnToken, Clock]:
    issuer = TokenIssuer(keys, issuer="assay", audience="assay", user_token_s=60, service_token_s=LIFE_S)
    clock = Clock()
    return OwnToken(issuer, clock=clock), clock


class TestOwnToken:
    async def test_is_one_that_every_service_trusts_and_good_for_little(self) -> None:
        keys = own_keys()
        token, _ = made(keys)
        verifier = TokenVerifier(keys, expected=Expected(issuer="assay", audience="assay"))

        principal = await verifier.verify(token.header()["Authorization"].removeprefix("Bearer "))

        assert principal.use is TokenUse.SERVICE
        assert principal.subject == "user_service"
        assert principal.scopes == {Scope.AUDIT_WRITE.value, Scope.NOTICES_WRITE.value}

    def test_is_kept_for_half_its_life(self) -> None:
        token, clock = made(own_keys())

        first = token.header()
        clock.now += LIFE_S / 2 - 1
        kept = token.header()
        clock.now += 1
        renewed = token.header()

        assert kept == first
        assert renewed != first

    def test_is_signed_anew_when_another_key_signs(self) -> None:
        keys = own_keys()
        token, _ = made(keys)
        first = token.header()["Authorization"].removeprefix("Bearer ")
        rotated = RingKey.of(new_key(), KeyTimes(1, 1))

        keys.replace([rotated, RingKey.of(shared_key(), KeyTimes(0, 0, retired_at_ms=1))])
        second = token.header()["Authorization"].removeprefix("Bearer ")

        assert (key_id(first), key_id(second)) == (shared_key().kid, rotated.key.kid)
