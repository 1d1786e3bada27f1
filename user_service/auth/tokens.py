"""The tokens we issue: signed access tokens, and opaque refresh tokens of which only a digest is kept."""

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from common.auth.signing import sign_access_token
from common.canonical import sha256_hex
from common.contracts.institutions import Institution
from common.contracts.roles import SCOPES_BY_ROLE, Role
from common.contracts.tokens import Scope, TokenUse
from common.ids import new_id
from user_service.signing_keys.ring import KeyRing
from user_service.times import SECOND_MS

REFRESH_TOKEN_BYTES = 32


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A signed token, its id, and how many seconds it lives."""

    text: str
    token_id: str
    expires_in: int


@dataclass(frozen=True)
class TokenIssuer:
    """Signs access tokens with the newest key that may sign; their claims are those that `common.auth.gate` accepts."""

    keys: KeyRing
    issuer: str
    audience: str
    user_token_s: int
    service_token_s: int

    def for_user(
        self,
        user_id: str,
        *,
        role: Role,
        institution: Institution,
        session_id: str,
        ends_at_ms: int,
        now_ms: int,
    ) -> AccessToken:
        """Issue a user's access token; it lives no longer than its session."""
        claims = {
            "sub": user_id,
            "token_use": TokenUse.USER.value,
            "scope": _scope(SCOPES_BY_ROLE[role]),
            "role": role.value,
            "sid": session_id,
            "institution_id": institution.institution_id,
            "institution_mode": institution.mode.value,
            "base_currency": institution.base_currency,
        }
        life_s = min(self.user_token_s, _left_s(ends_at_ms, now_ms=now_ms))
        return self._sign(claims, life_s=life_s, now_ms=now_ms)

    def for_api_key(
        self,
        key_id: str,
        *,
        scopes: Collection[Scope],
        institution: Institution,
        ends_at_ms: int | None,
        now_ms: int,
    ) -> AccessToken:
        """Issue the access token that an API key is exchanged for; it lives no longer than the key."""
        claims = {
            "sub": key_id,
            "token_use": TokenUse.API_KEY.value,
            "scope": _scope(scopes),
            "sid": key_id,
            "institution_id": institution.institution_id,
            "institution_mode": institution.mode.value,
            "base_currency": institution.base_currency,
        }
        left_s = self.user_token_s if ends_at_ms is None else _left_s(ends_at_ms, now_ms=now_ms)
        return self._sign(claims, life_s=min(self.user_token_s, left_s), now_ms=now_ms)

    def for_service(self, client_id: str, *, scopes: Collection[Scope], now_ms: int) -> AccessToken:
        """Issue a service's access token."""
        claims = {"sub": client_id, "token_use": TokenUse.SERVICE.value, "scope": _scope(scopes)}
        return self._sign(claims, life_s=self.service_token_s, now_ms=now_ms)

    def _sign(self, claims: Mapping[str, Any], *, life_s: int, now_ms: int) -> AccessToken:
        token_id = new_id("tok")
        issued = now_ms // 1000
        complete = {
            **claims,
            "iss": self.issuer,
            "aud": self.audience,
            "iat": issued,
            "exp": issued + life_s,
            "jti": token_id,
        }
        return AccessToken(sign_access_token(complete, self.keys.signing(now_ms)), token_id, life_s)


def is_over(ends_at_ms: int, *, now_ms: int) -> bool:
    """Say whether there is no token for what is left until then: one lives for whole seconds, and at least for one."""
    return ends_at_ms <= now_ms + SECOND_MS


def new_refresh_token() -> str:
    """Return 256 random bits as text."""
    return secrets.token_urlsafe(REFRESH_TOKEN_BYTES)


def digest_of(refresh_token: str) -> str:
    """Return what the database knows of a refresh token."""
    return sha256_hex(refresh_token.encode("utf-8", "surrogatepass"))


def _left_s(ends_at_ms: int, *, now_ms: int) -> int:
    return ends_at_ms // SECOND_MS - now_ms // SECOND_MS


def _scope(scopes: Collection[Scope]) -> str:
    return " ".join(scope.value for scope in scopes)
