"""Exchanging an API key for an access token: OAuth 2 client credentials (RFC 6749 section 4.4)."""

from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncSession

from common.contracts.tokens import Scope
from common.logging import add_facts
from user_service.access import repository as access
from user_service.api_keys import repository
from user_service.api_keys.tables import ApiKeyRow, has_ended
from user_service.auth.tokens import TokenIssuer
from user_service.derived_keys import keyed_digest
from user_service.institutions.tables import InstitutionRow
from user_service.oauth.requests import ClientRefusedError, ScopeRefusedError, TokenRequest
from user_service.oauth.schemas import GrantedToken
from user_service.times import SECOND_MS


@dataclass(frozen=True)
class KeyExchange:
    """Makes tokens from API keys."""

    issuer: TokenIssuer
    hash_key: bytes = field(repr=False)

    async def grant(self, session: AsyncSession, request: TokenRequest, *, now_ms: int) -> GrantedToken:
        """Return a token with the scopes asked for; raises `ClientRefusedError` and `ScopeRefusedError`."""
        key, institution = await self._find(session, request, now_ms=now_ms)
        had = key.scopes.split()
        if not request.scopes <= set(had):
            raise ScopeRefusedError
        scopes = [Scope(scope) for scope in had if scope in request.scopes or not request.scopes]
        token = self.issuer.for_api_key(
            key.key_id,
            scopes=scopes,
            institution=institution.as_contract(),
            ends_at_ms=key.expires_at_ms,
            now_ms=now_ms,
        )
        add_facts(caller=key.key_id, institution_id=institution.institution_id)
        await access.note_uses(session, {key.key_id: now_ms})
        return GrantedToken(
            access_token=token.text,
            expires_in=token.expires_in,
            scope=" ".join(scope.value for scope in scopes),
        )

    async def _find(
        self, session: AsyncSession, request: TokenRequest, *, now_ms: int
    ) -> tuple[ApiKeyRow, InstitutionRow]:
        """Find the key by its digest alone, so that the time taken tells nothing about any key."""
        digest = keyed_digest(self.hash_key, request.client_secret)
        found = await repository.find_by_digest(session, digest)
        if found is None or found[0].key_id != request.client_id:
            raise ClientRefusedError
        key, institution = found
        # a token lives for whole seconds: there is none for what is left of the last one
        if has_ended(key, now_ms=now_ms + SECOND_MS) or institution.suspended_at_ms is not None:
            raise ClientRefusedError
        return found
