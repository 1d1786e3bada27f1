"""Builds what the service needs: the database, the signing keys, the password threads."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from common.app import State
from common.auth.gate import Expected
from common.auth.keys import TokenVerifier
from common.background import running
from common.clock import epoch_ms
from common.db import open_database
from user_service.account_tasks.service import AccountTasks
from user_service.attempts.service import Attempts
from user_service.auth.mailed_token_desk import MailedTokenDesk
from user_service.auth.passwords import Passwords, open_passwords
from user_service.auth.proofs import Proofs
from user_service.auth.service import Authentication
from user_service.auth.service_clients import ServiceClients
from user_service.auth.service_tokens import ServiceTokenDesk
from user_service.auth.session_tokens import SessionTokens
from user_service.auth.signing_keys import KeyRing, open_key_ring
from user_service.auth.tokens import TokenIssuer
from user_service.derived_keys import DerivedKeys, derive_keys
from user_service.institutions.service import Institutions
from user_service.members.invitations import Joining
from user_service.members.service import Members
from user_service.password_resets.service import PasswordResets
from user_service.second_factors.checking import Codes
from user_service.second_factors.service import SecondFactors
from user_service.sessions.service import Sessions
from user_service.settings import UserSettings
from user_service.users.service import Profiles

MIGRATIONS = Path(__file__).parent / "migrations"
DAY_MS = 86_400_000


@asynccontextmanager
async def build(settings: UserSettings) -> AsyncIterator[State]:
    """Open everything, yield what requests use, close everything; raises `StartupError`."""
    async with (
        open_database(settings.database_url, migrations=MIGRATIONS) as database,
        open_passwords(workers=settings.password_workers, queue=settings.password_queue) as passwords,
    ):
        keys = await open_key_ring(
            database, passphrase=settings.signing_key_passphrase.get_secret_value(), now_ms=epoch_ms()
        )
        issuer = _issuer(settings, keys)
        derived = await asyncio.to_thread(derive_keys, settings.signing_key_passphrase.get_secret_value())
        expected = Expected(issuer=settings.token_issuer, audience=settings.token_audience)
        tasks = AccountTasks(database)
        async with running(tasks.work, tasks.forget):
            yield {
                "database": database,
                "keys": keys,
                "token_verifier": TokenVerifier(keys, expected=expected),
                **_people(settings, passwords, issuer, derived),
                "service_tokens": ServiceTokenDesk(_clients(settings), issuer),
                "readiness": {
                    "database_connected": database.connected,
                    "signing_key_loaded": keys.is_loaded,
                },
            }


def _people(
    settings: UserSettings, passwords: Passwords, issuer: TokenIssuer, derived: DerivedKeys
) -> dict[str, object]:
    """Build what institutions and their people use to get in, and to run themselves."""
    attempts = Attempts(derived.attempts)
    codes = Codes(derived)
    desk = MailedTokenDesk(derived.mailed_tokens, attempts)
    proofs = Proofs(passwords, attempts, codes)
    tokens = SessionTokens(
        issuer,
        refresh_token_ms=settings.refresh_token_days * DAY_MS,
        session_ms=settings.session_days * DAY_MS,
    )
    return {
        "authentication": Authentication(passwords, attempts, codes, tokens),
        "institutions": Institutions(passwords, tokens),
        "profiles": Profiles(passwords, proofs),
        "sessions": Sessions(),
        "second_factors": SecondFactors(proofs),
        "members": Members(),
        "joining": Joining(desk, passwords, tokens),
        "password_resets": PasswordResets(desk, passwords, attempts),
    }


def _issuer(settings: UserSettings, keys: KeyRing) -> TokenIssuer:
    return TokenIssuer(
        keys,
        issuer=settings.token_issuer,
        audience=settings.token_audience,
        user_token_s=settings.access_token_s,
        service_token_s=settings.service_token_s,
    )


def _clients(settings: UserSettings) -> ServiceClients:
    return ServiceClients(
        {
            "ai_service": settings.ai_service_secret,
            "alert_service": settings.alert_service_secret,
            "log_service": settings.log_service_secret,
            "external_apis_services": settings.external_apis_service_secret,
            "operator": settings.operator_secret,
        }
    )
