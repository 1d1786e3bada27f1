"""Builds what the service needs: the database, the keys, the password threads, the ways out.

`build` is over the house limit: it is one list of what is opened, in the order in which it is closed again.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import structlog

from common.app import ReadinessCheck, State
from common.auth.gate import Expected
from common.auth.keys import TokenVerifier
from common.background import Loop, running
from common.changes.watch import ChangeWatch
from common.clients.logs import LogClient
from common.clients.notices import NoticeClient
from common.clock import epoch_ms
from common.db import Database, open_database, writing_engine
from common.delivery import courier
from common.postgres.listening import watching_loops
from common.relay import Relay
from common.valkey.calls import open_shared
from common.writer import DatabaseWriter
from user_service.access.announcing import Announcer
from user_service.access.service import AccessFeeds, OwnAccess
from user_service.account_work.service import AccountTasks
from user_service.api_keys.configured import ConfiguredKeys
from user_service.api_keys.service import ApiKeys
from user_service.approvals.actions import ApprovalAction
from user_service.approvals.service import FourEyes
from user_service.attempts.service import Attempts
from user_service.auth.own_token import OwnToken
from user_service.auth.passwords import Passwords, open_passwords
from user_service.auth.service_clients import ServiceClients
from user_service.auth.service_tokens import ServiceTokenDesk
from user_service.auth.session_tokens import SessionTokens
from user_service.auth.tokens import TokenIssuer
from user_service.changes import Topic, read_versions
from user_service.derived_keys import DerivedKeys, derive_keys
from user_service.events.archiving import audit_relay
from user_service.institutions.administration import Administration
from user_service.institutions.platform import make_platform
from user_service.login.service import Authentication
from user_service.mailed_tokens.desk import MailedTokenDesk
from user_service.members.granting import GrantAdmin, Granting
from user_service.members.invitations import Joining
from user_service.members.service import Members
from user_service.notices.sending import notice_relay
from user_service.oauth.service import KeyExchange
from user_service.operators.appointing import invite_first_operator
from user_service.password_resets.service import PasswordResets
from user_service.profiles.service import Profiles
from user_service.registrations.service import Registrations
from user_service.second_factors.checking import Codes
from user_service.second_factors.proofs import Proofs
from user_service.second_factors.service import SecondFactors
from user_service.sessions.service import Sessions
from user_service.settings import UserSettings
from user_service.signing_keys.keeper import KeyKeeper
from user_service.signing_keys.ring import KeyRing
from user_service.signing_keys.service import RotateSigningKey, SigningKeys
from user_service.signing_keys.store import KeyStore
from user_service.tables import MIGRATIONS
from user_service.tenants.service import Institutions
from user_service.times import DAY_MS
from user_service.users.repository import EmailTakenError

RELAY_TIMEOUT_S = 10.0
RELAYS = "relays"
_log = structlog.get_logger()


@asynccontextmanager
async def build(settings: UserSettings) -> AsyncIterator[State]:
    """Open everything, yield what requests use, close everything; raises `StartupError`."""
    passphrase = settings.signing_key_passphrase.get_secret_value()
    async with (
        open_database(
            settings.database_url, migrations=MIGRATIONS, production=settings.is_production
        ) as database,
        open_passwords(workers=settings.password_workers, queue=settings.password_queue) as passwords,
        open_shared(settings) as valkey,
    ):
        await _prepare_platform(database, settings.operator_email)
        key_store = KeyStore(database, passphrase)
        watch = ChangeWatch(
            partial(read_versions, database), {Topic.SIGNING_KEYS: lambda _: keeper.reread(now_ms=epoch_ms())}
        )
        await watch.start()  # before what changes is read
        keys = await key_store.open(now_ms=epoch_ms())
        keeper = KeyKeeper(keys, key_store, days=settings.signing_key_days)
        issuer = _issuer(settings, keys)
        derived = await asyncio.to_thread(derive_keys, passphrase)
        api_keys = ApiKeys(derived.api_keys)
        await ConfiguredKeys(database, api_keys, settings).ensure(now_ms=epoch_ms())
        feeds = AccessFeeds(derived.api_keys)
        access = OwnAccess(database, feeds)
        expected = Expected(issuer=settings.token_issuer, audience=settings.token_audience)
        tasks = AccountTasks(database, keep_approvals_ms=settings.approval_days * DAY_MS)
        keep_uses = partial(access.keep_uses, every_s=settings.access_poll_s)
        watching = watching_loops(watch, settings.database_url)
        loops: list[Loop] = [*watching, keeper.keep, tasks.work, tasks.forget, keep_uses, access.keep_tidy]
        if valkey is not None:
            announcer = Announcer(valkey.messages)
            announcer.follow(database)
            loops.append(announcer.keep_telling)
        async with _relaying(settings, issuer, derived), running(*loops):
            yield {
                "database": database,
                "valkey": valkey,
                "keys": keys,
                "token_verifier": TokenVerifier(
                    keys, expected=expected, access=access.state, catch_up=access.catch_up
                ),
                **_people(settings, issuer, passwords, derived),
                **_administration(settings, key_store),
                "service_tokens": ServiceTokenDesk(_clients(settings), issuer),
                "access_feeds": feeds,
                "api_keys": api_keys,
                "key_exchange": KeyExchange(issuer, derived.api_keys),
                "readiness": _readiness(database, keys),
            }


def _people(
    settings: UserSettings, issuer: TokenIssuer, passwords: Passwords, derived: DerivedKeys
) -> dict[str, object]:
    """Return what serves people: how they get in, and what they see of themselves."""
    attempts = Attempts(derived.attempts)
    codes = Codes(derived)
    desk = MailedTokenDesk(derived.mailed_tokens, attempts)
    proofs = Proofs(passwords, attempts, codes)
    tokens = _session_tokens(settings, issuer, attempts)
    institutions = Institutions(tokens, settings.registration_tier)
    return {
        "authentication": Authentication(passwords, attempts, codes, tokens),
        "institutions": institutions,
        "registrations": Registrations(settings.registration, passwords, desk, institutions),
        "registration": settings.registration,
        "profiles": Profiles(passwords, proofs),
        "sessions": Sessions(),
        "second_factors": SecondFactors(proofs),
        "joining": Joining(desk, passwords, tokens),
        "password_resets": PasswordResets(desk, passwords, attempts),
    }


def _administration(settings: UserSettings, key_store: KeyStore) -> dict[str, object]:
    """Return what serves those who run an institution or the platform."""
    members = Members()
    four_eyes = FourEyes(
        {
            ApprovalAction.ROTATE_SIGNING_KEY: RotateSigningKey(key_store),
            ApprovalAction.GRANT_ADMIN: GrantAdmin(members),
        }
    )
    return {
        "administration": Administration(),
        "members": members,
        "granting": Granting(members, four_eyes),
        "four_eyes": four_eyes,
        "signing_keys": SigningKeys(four_eyes),
    }


@asynccontextmanager
async def _relaying(settings: UserSettings, issuer: TokenIssuer, derived: DerivedKeys) -> AsyncIterator[None]:
    """Tell log_service and alert_service what is in the outbox, on a database thread of their own.

    Neither has to be there: what cannot be told waits, and user_service is ready without them.
    """
    async with AsyncExitStack() as stack:
        writer = DatabaseWriter(writing_engine(settings.database_url), name=RELAYS)
        stack.push_async_callback(writer.close)
        token = OwnToken(issuer)
        logs, alerts = [
            await stack.enter_async_context(courier(url, timeout_s=RELAY_TIMEOUT_S))
            for url in (settings.log_service_url, settings.alert_service_url)
        ]
        relays: tuple[Relay, ...] = (
            audit_relay(writer, LogClient(logs, token)),
            notice_relay(writer, NoticeClient(alerts, token), token_key=derived.mailed_tokens),
        )
        async with running(*(relay.run for relay in relays)):
            yield


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


def _issuer(settings: UserSettings, keys: KeyRing) -> TokenIssuer:
    return TokenIssuer(
        keys,
        issuer=settings.token_issuer,
        audience=settings.token_audience,
        user_token_s=settings.access_token_s,
        service_token_s=settings.service_token_s,
    )


def _session_tokens(settings: UserSettings, issuer: TokenIssuer, attempts: Attempts) -> SessionTokens:
    return SessionTokens(
        issuer,
        attempts,
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
