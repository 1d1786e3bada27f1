"""Builds what the service needs: the database, the signing keys, the password threads."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from common.app import ReadinessCheck, State
from common.auth.gate import Expected
from common.auth.keys import TokenVerifier
from common.background import running
from common.clock import epoch_ms
from common.db import Database, open_database
from user_service.account_tasks.service import AccountTasks
from user_service.approvals.actions import ApprovalAction
from user_service.approvals.service import FourEyes
from user_service.attempts.service import Attempts
from user_service.auth.mailed_token_desk import MailedTokenDesk
from user_service.auth.passwords import open_passwords
from user_service.auth.proofs import Proofs
from user_service.auth.service import Authentication
from user_service.auth.service_clients import ServiceClients
from user_service.auth.service_tokens import ServiceTokenDesk
from user_service.auth.session_tokens import SessionTokens
from user_service.auth.tokens import TokenIssuer
from user_service.derived_keys import derive_keys
from user_service.institutions.administration import Administration
from user_service.institutions.platform import make_platform
from user_service.institutions.service import Institutions
from user_service.members.granting import GrantAdmin, Granting
from user_service.members.invitations import Joining
from user_service.members.service import Members
from user_service.operators.appointing import invite_first_operator
from user_service.password_resets.service import PasswordResets
from user_service.second_factors.checking import Codes
from user_service.second_factors.service import SecondFactors
from user_service.sessions.service import Sessions
from user_service.settings import UserSettings
from user_service.signing_keys.keeper import KeyKeeper
from user_service.signing_keys.ring import KeyRing
from user_service.signing_keys.service import RotateSigningKey, SigningKeys
from user_service.signing_keys.store import KeyStore
from user_service.users.repository import EmailTakenError
from user_service.users.service import Profiles

MIGRATIONS = Path(__file__).parent / "migrations"
DAY_MS = 86_400_000
_log = structlog.get_logger()


@asynccontextmanager
async def build(settings: UserSettings) -> AsyncIterator[State]:
    """Open everything, yield what requests use, close everything; raises `StartupError`."""
    async with (
        open_database(settings.database_url, migrations=MIGRATIONS) as database,
        open_passwords(workers=settings.password_workers, queue=settings.password_queue) as passwords,
    ):
        await _prepare_platform(database, settings.operator_email)
        key_store = KeyStore(database, settings.signing_key_passphrase.get_secret_value())
        keys = await key_store.open(now_ms=epoch_ms())
        members = Members()
        four_eyes = _four_eyes(key_store, members)
        keeper = KeyKeeper(keys, key_store, days=settings.signing_key_days)
        issuer = _issuer(settings, keys)
        derived = await asyncio.to_thread(derive_keys, settings.signing_key_passphrase.get_secret_value())
        attempts = Attempts(derived.attempts)
        codes = Codes(derived)
        desk = MailedTokenDesk(derived.mailed_tokens, attempts)
        proofs = Proofs(passwords, attempts, codes)
        tokens = _session_tokens(settings, issuer)
        expected = Expected(issuer=settings.token_issuer, audience=settings.token_audience)
        tasks = AccountTasks(database)
        async with running(keeper.keep, tasks.work, tasks.forget):
            yield {
                "database": database,
                "keys": keys,
                "token_verifier": TokenVerifier(keys, expected=expected),
                "authentication": Authentication(passwords, attempts, codes, tokens),
                "institutions": Institutions(passwords, tokens, settings.registration_tier),
                "administration": Administration(),
                "registration": settings.registration,
                "profiles": Profiles(passwords, proofs),
                "sessions": Sessions(),
                "second_factors": SecondFactors(proofs),
                "members": members,
                "granting": Granting(members, four_eyes),
                "joining": Joining(desk, passwords, tokens),
                "password_resets": PasswordResets(desk, passwords, attempts),
                "four_eyes": four_eyes,
                "signing_keys": SigningKeys(four_eyes),
                "service_tokens": ServiceTokenDesk(_clients(settings), issuer),
                "readiness": _readiness(database, keys),
            }


def _readiness(database: Database, keys: KeyRing) -> Mapping[str, ReadinessCheck]:
    return {"database_connected": database.connected, "signing_key_loaded": keys.is_loaded}


async def _prepare_platform(database: Database, email: str) -> None:
    """Make the platform's institution and invite its first operator; of processes that start together one does."""
    async with database.sessions.begin() as session:
        await make_platform(session, now_ms=epoch_ms())
    if not email:
        return
    try:
        async with database.sessions.begin() as session:
            invited = await invite_first_operator(session, email=email, now_ms=epoch_ms())
    except EmailTakenError:
        _log.warning("operator.not_invited", reason="the address has an account")
    else:
        if invited:
            _log.info("operator.invited")


def _four_eyes(key_store: KeyStore, members: Members) -> FourEyes:
    return FourEyes(
        {
            ApprovalAction.ROTATE_SIGNING_KEY: RotateSigningKey(key_store),
            ApprovalAction.GRANT_ADMIN: GrantAdmin(members),
        }
    )


def _issuer(settings: UserSettings, keys: KeyRing) -> TokenIssuer:
    return TokenIssuer(
        keys,
        issuer=settings.token_issuer,
        audience=settings.token_audience,
        user_token_s=settings.access_token_s,
        service_token_s=settings.service_token_s,
    )


def _session_tokens(settings: UserSettings, issuer: TokenIssuer) -> SessionTokens:
    return SessionTokens(
        issuer,
        refresh_token_ms=settings.refresh_token_days * DAY_MS,
        session_ms=settings.session_days * DAY_MS,
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
