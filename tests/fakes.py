"""Small honest stand-ins for what leaves a process."""

import base64
from collections.abc import Iterable
from functools import cache
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from common.auth.signing import SigningKey, generate_signing_key, public_jwk, sign_access_token, unlock
from common.canonical import sha256_hex
from common.clock import epoch_ms
from common.contracts.access import (
    AccessFeed,
    Allowance,
    ApiKeyAccess,
    EndedSession,
    InstitutionAccess,
    OverQuota,
    Tier,
)
from common.contracts.institutions import Institution, InstitutionMode
from common.contracts.tokens import Scope, TokenUse
from common.ids import new_id
from user_service.derived_keys import keyed_digest

HASH_KEY: Final = b"a key for the digests of API keys"
UNBOUNDED = Allowance(
    tier=Tier.ENTERPRISE,
    decisions_per_month=None,
    over_quota=OverQuota.ALLOW_AND_WARN,
    requests_per_second=20_000,
    caller_requests_per_second=20_000,
)
AccessChange = InstitutionAccess | ApiKeyAccess | EndedSession
PASSPHRASE = "a passphrase for tests only, long enough"
USER_SCOPES = (
    Scope.SCORE_WRITE,
    Scope.DECISIONS_READ,
    Scope.ALERTS_READ,
    Scope.AUDIT_READ,
    Scope.PROFILE_WRITE,
)


def new_key() -> SigningKey:
    """Make a key of its own."""
    return unlock(generate_signing_key(passphrase=PASSPHRASE), passphrase=PASSPHRASE)


@cache
def shared_key() -> SigningKey:
    """Return one key for a whole test run; making one takes a while."""
    return new_key()


class FakeUserService:
    """Publishes one key, signs what tests ask for, hands out service tokens and recipients, says who may get in.

    What is appended to `access` is in the feed from then on; `key_uses` is what it was told.
    """

    def __init__(self, key: SigningKey | None = None) -> None:
        self.key: SigningKey = key or shared_key()
        self.recipients: dict[str, list[str]] = {}
        self.recipients_status = 200
        self.access: list[AccessChange] = []
        self.access_status = 200
        self.access_asked = 0
        self.access_asked_after: list[int] = []
        self.key_uses: dict[str, int] = {}
        self.key_fetches = 0
        self.app = Starlette(
            routes=[
                Route("/.well-known/jwks.json", self._jwks),
                Route("/v1/internal/service-tokens", self._service_token, methods=["POST"]),
                Route("/v1/internal/institutions/{institution_id}/recipients", self._recipients),
                Route("/v1/internal/access-feed", self._access_feed),
                Route("/v1/internal/key-uses", self._key_uses, methods=["POST"]),
            ]
        )

    def user_token(
        self,
        *,
        institution: Institution | None = None,
        scopes: Iterable[Scope] = USER_SCOPES,
        role: str = "admin",
        **changes: object,
    ) -> str:
        """Sign a user's access token; `changes` replace claims, and None removes one."""
        chosen = institution or Institution(
            institution_id="ins_test", mode=InstitutionMode.SANDBOX, base_currency="EUR"
        )
        claims: dict[str, Any] = {
            **self._common(TokenUse.USER, scopes),
            "sub": "usr_test",
            "role": role,
            "sid": "ses_test",
            "institution_id": chosen.institution_id,
            "institution_mode": chosen.mode.value,
            "base_currency": chosen.base_currency,
            **changes,
        }
        return self._sign(claims)

    def api_key_token(self, key: ApiKeyAccess, *, institution: Institution, **changes: object) -> str:
        """Sign the access token that an API key is exchanged for."""
        claims: dict[str, Any] = {
            **self._common(TokenUse.API_KEY, key.scopes),
            "sub": key.key_id,
            "sid": key.key_id,
            "institution_id": institution.institution_id,
            "institution_mode": institution.mode.value,
            "base_currency": institution.base_currency,
            **changes,
        }
        return self._sign(claims)

    def service_token(self, *scopes: Scope, subject: str = "ai_service", **changes: object) -> str:
        """Sign a service's access token."""
        return self._sign({**self._common(TokenUse.SERVICE, scopes), "sub": subject, **changes})

    def _sign(self, claims: dict[str, Any]) -> str:
        return sign_access_token(
            {name: value for name, value in claims.items() if value is not None}, self.key
        )

    def _common(self, use: TokenUse, scopes: Iterable[Scope]) -> dict[str, Any]:
        now = epoch_ms() // 1000
        return {
            "iss": "assay",
            "aud": "assay",
            "iat": now,
            "exp": now + 900,
            "jti": new_id("tok"),
            "token_use": use.value,
            "scope": " ".join(scope.value for scope in scopes),
        }

    async def _jwks(self, _request: Request) -> JSONResponse:
        self.key_fetches += 1
        return JSONResponse({"keys": [public_jwk(self.key)]})

    async def _service_token(self, request: Request) -> JSONResponse:
        asked = await request.json()
        token = self.service_token(*Scope, subject=asked["client_id"])
        return JSONResponse({"access_token": token, "token_type": "Bearer", "expires_in": 900})

    async def _access_feed(self, request: Request) -> JSONResponse:
        self.access_asked += 1
        after = int(request.query_params["after"])
        self.access_asked_after.append(after)
        knows = request.query_params["mark"] == mark_of(self.access[:after])
        feed = access_feed(self.access, after=after if knows else 0)
        return JSONResponse(feed.model_dump(mode="json"), status_code=self.access_status)

    async def _key_uses(self, request: Request) -> JSONResponse:
        for use in (await request.json())["uses"]:
            self.key_uses[use["key_id"]] = max(use["used_at_ms"], self.key_uses.get(use["key_id"], 0))
        return JSONResponse(None, status_code=200)

    async def _recipients(self, request: Request) -> JSONResponse:
        institution_id = request.path_params["institution_id"]
        emails = self.recipients.get(institution_id, ["admin@example.org"])
        return JSONResponse(
            {"institution_id": institution_id, "institution_name": "Test Bank", "emails": emails},
            status_code=self.recipients_status,
        )


def access_feed(changes: list[AccessChange], *, after: int = 0, more: bool = False) -> AccessFeed:
    """Return the page of the feed that holds `changes` but for the first `after`."""
    page = changes[after:]
    return AccessFeed(
        after=after,
        version=len(changes),
        mark=mark_of(changes),
        more=more,
        hash_key=base64.b64encode(HASH_KEY).decode(),
        institutions=tuple(each for each in page if isinstance(each, InstitutionAccess)),
        api_keys=tuple(each for each in page if isinstance(each, ApiKeyAccess)),
        ended_sessions=tuple(each for each in page if isinstance(each, EndedSession)),
    )


def mark_of(changes: list[AccessChange]) -> str:
    """Return the mark of the last of `changes`; here it follows from what that says."""
    return sha256_hex(changes[-1].model_dump_json().encode())[:16] if changes else ""


def institution_access(institution: Institution, *, suspended: bool = False) -> InstitutionAccess:
    """Return what the feed says of an institution that may ask for anything."""
    return InstitutionAccess(institution=institution, suspended=suspended, allowance=UNBOUNDED)


def key_access(text: str, institution: Institution, *scopes: Scope, **changes: Any) -> ApiKeyAccess:  # noqa: ANN401 - any field
    """Return what the feed says of the API key `text`."""
    return ApiKeyAccess.model_validate(
        {
            "key_id": "key_test",
            "institution_id": institution.institution_id,
            "digest": keyed_digest(HASH_KEY, text),
            "scopes": scopes,
            "expires_at": None,
            "revoked": False,
            **changes,
        }
    )


def allowance(
    *,
    decisions_per_month: int | None = None,
    over_quota: OverQuota = OverQuota.ALLOW_AND_WARN,
    requests_per_second: int = 100_000,
    caller_requests_per_second: int = 100_000,
) -> Allowance:
    """Make what an institution may ask for."""
    return Allowance(
        tier=Tier.GROWTH,
        decisions_per_month=decisions_per_month,
        over_quota=over_quota,
        requests_per_second=requests_per_second,
        caller_requests_per_second=caller_requests_per_second,
    )


class FakeAllowances:
    """Knows what a test says it knows: an allowance for each institution that is named, or one for all."""

    def __init__(self, for_all: Allowance | None = None, **by_institution: Allowance) -> None:
        self.for_all = for_all
        self.by_institution = by_institution

    def allowance(self, institution_id: str) -> Allowance | None:
        """Return what is known."""
        return self.by_institution.get(institution_id, self.for_all)
