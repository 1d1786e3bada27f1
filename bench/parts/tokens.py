"""What it costs to know who is calling."""

import asyncio
import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.figures import Figure
from bench.parts.timing import per_item_us
from common.auth.access import AccessState
from common.auth.gate import Expected
from common.auth.keys import TokenVerifier
from common.auth.signing import generate_signing_key, public_jwk, sign_access_token, unlock
from common.clock import epoch_ms
from common.contracts.access import (
    AccessFeed,
    Allowance,
    ApiKeyAccess,
    InstitutionAccess,
    OverQuota,
    Tier,
)
from common.contracts.institutions import Institution, InstitutionMode
from common.contracts.tokens import Scope, TokenUse
from common.ids import new_id

ISSUER = AUDIENCE = "assay"
TOKENS = 300
PASSPHRASE = "only for this run"  # noqa: S105 - the key is thrown away with it


@dataclass(frozen=True)
class _OneKey:
    key: Mapping[str, str]

    async def find(self, kid: str) -> Mapping[str, str]:
        """Return the one key there is."""
        return self.key

    def has(self, kid: str) -> bool:
        """Say that every key is the one there is."""
        return bool(kid)


def token_figures(*, repeats: int) -> Iterator[Figure]:
    """Yield the time to verify a token for the first time, to find one again, and to find who holds an API key."""
    key = unlock(generate_signing_key(passphrase=PASSPHRASE), passphrase=PASSPHRASE)
    tokens = [sign_access_token(_claims(), key) for _ in range(TOKENS)]
    expected = Expected(issuer=ISSUER, audience=AUDIENCE)
    keys = _OneKey(public_jwk(key))
    with asyncio.Runner() as runner:
        loop = runner.get_loop()

        def verify_first(token: str) -> None:
            loop.run_until_complete(TokenVerifier(keys, expected=expected).verify(token))

        cold, _ = per_item_us(verify_first, tokens, repeats=repeats)
        nothing, _ = per_item_us(lambda _: loop.run_until_complete(_nothing()), tokens, repeats=repeats)
        verifier = TokenVerifier(keys, expected=expected)
        for token in tokens:
            loop.run_until_complete(verifier.verify(token))
    remembered, _ = per_item_us(verifier.remembered, [*tokens] * 10, repeats=repeats)
    texts = [f"ask_live_{number:08}_{secrets.token_urlsafe(32)}" for number in range(TOKENS)]
    holders = TokenVerifier(keys, expected=expected, access=_knowing(texts))
    by_key, _ = per_item_us(holders.holder_of, [text.encode() for text in texts] * 10, repeats=repeats)
    yield Figure("token_cold", cold - nothing, "us", note="RS256 by python-jose behind the gate, a new token")
    yield Figure("token_remembered", remembered, "us")
    yield Figure("api_key", by_key, "us", note="an API key's digest, made and looked up among 300")


async def _nothing() -> None:
    """Cost what starting the event loop costs."""


def _knowing(texts: Sequence[str]) -> AccessState:
    """Return what a service knows of the keys `texts`."""
    hash_key = secrets.token_bytes(32)
    institution = Institution(institution_id="ins_bench", mode=InstitutionMode.SANDBOX, base_currency="EUR")
    allowance = Allowance(
        tier=Tier.ENTERPRISE,
        decisions_per_month=None,
        over_quota=OverQuota.ALLOW_AND_WARN,
        requests_per_second=20_000,
        caller_requests_per_second=20_000,
    )
    feed = AccessFeed(
        after=0,
        version=len(texts) + 1,
        mark="bench",
        more=False,
        hash_key=base64.b64encode(hash_key).decode(),
        institutions=(InstitutionAccess(institution=institution, suspended=False, allowance=allowance),),
        api_keys=tuple(
            ApiKeyAccess(
                key_id=f"key_{number}",
                institution_id="ins_bench",
                digest=hmac.new(hash_key, text.encode(), hashlib.sha256).hexdigest(),
                scopes=(Scope.SCORE_WRITE,),
                expires_at=None,
                revoked=False,
            )
            for number, text in enumerate(texts)
        ),
        ended_sessions=(),
    )
    state = AccessState()
    state.apply(feed, as_of=time.monotonic(), now=epoch_ms() // 1000)
    return state


def _claims() -> dict[str, str | int]:
    now = epoch_ms() // 1000
    return {
        "sub": "usr_bench",
        "token_use": TokenUse.USER.value,
        "scope": Scope.SCORE_WRITE.value,
        "role": "admin",
        "sid": "ses_bench",
        "institution_id": "ins_bench",
        "institution_mode": "sandbox",
        "base_currency": "EUR",
        "iss": ISSUER,
        "aud": AUDIENCE,
        "iat": now,
        "exp": now + 600,
        "jti": new_id("tok"),
    }
