"""Everybody who calls: people, services, API keys, and strangers whom no route may let in."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from common.auth.signing import SigningKey
from common.clock import epoch_ms
from common.contracts.access import EndedSession
from common.contracts.institutions import Institution, InstitutionMode
from common.contracts.roles import SCOPES_BY_ROLE, Role
from common.contracts.tokens import API_KEY_SCOPES
from tests.factories import SANDBOX
from tests.fakes import FakeUserService, institution_access, key_access
from tests.security.forging import Forge, strange_key
from user_service.auth.service_clients import OWN_SCOPES, SCOPES_BY_CLIENT
from user_service.institutions.tables import PLATFORM_INSTITUTION_ID

HOME = SANDBOX
ELSEWHERE = Institution(institution_id="ins_elsewhere", mode=InstitutionMode.SANDBOX, base_currency="EUR")
PLATFORM = Institution(institution_id=PLATFORM_INSTITUTION_ID, mode=InstitutionMode.LIVE, base_currency="EUR")
KEYS_SCOPES = {f"key:{scope.value}": scope for scope in API_KEY_SCOPES}
SERVICES_SCOPES = {**SCOPES_BY_CLIENT, "user_service": OWN_SCOPES}
WORDS = frozenset({*Role, *KEYS_SCOPES, *(f"service:{name}" for name in SERVICES_SCOPES)})
"""The words of the policy for those who are known."""


@dataclass(frozen=True)
class Caller:
    """One who calls: `word` is what the policy calls them, empty for those whom no route may let in."""

    name: str
    word: str
    headers: tuple[tuple[str, str], ...]
    elsewhere: bool = False

    @property
    def is_known(self) -> bool:
        """Say whether the credentials are good."""
        return bool(self.word)


def shown(token: str) -> tuple[tuple[str, str], ...]:
    """Return the headers that show a token."""
    return (("Authorization", f"Bearer {token}"),)


def by_key(text: str) -> tuple[tuple[str, str], ...]:
    """Return the headers that show an API key."""
    return (("X-API-Key", text),)


def people(users: FakeUserService) -> Iterator[Caller]:
    """Return a person of every role, and an admin of another institution."""
    for role, scopes in SCOPES_BY_ROLE.items():
        institution = PLATFORM if role is Role.OPERATOR else HOME
        token = users.user_token(
            role=role.value,
            scopes=scopes,
            institution=institution,
            sub=f"usr_{role.value}",
            sid=f"ses_{role.value}",
        )
        yield Caller(role.value, role.value, shown(token), elsewhere=institution is not HOME)
    token = users.user_token(scopes=SCOPES_BY_ROLE[Role.ADMIN], institution=ELSEWHERE, sub="usr_elsewhere")
    yield Caller("admin of another institution", Role.ADMIN.value, shown(token), elsewhere=True)


def services(users: FakeUserService) -> Iterator[Caller]:
    """Return each of our own services, with the scopes that user_service gives it."""
    for name, scopes in SERVICES_SCOPES.items():
        word = f"service:{name}"
        yield Caller(word, word, shown(users.service_token(*scopes, subject=name)))


def api_keys(users: FakeUserService) -> Iterator[Caller]:
    """Return an API key of each scope, of both institutions, and the token it is exchanged for; the feed knows them."""
    for institution in (HOME, ELSEWHERE):
        whose = "" if institution is HOME else " of another institution"
        for number, (word, scope) in enumerate(KEYS_SCOPES.items()):
            text, key_id = (
                f"ask_test_{institution.institution_id}_{number}",
                f"key_{institution.institution_id}_{number}",
            )
            access = key_access(text, institution, scope, key_id=key_id)
            users.access.append(access)
            token = users.api_key_token(access, institution=institution)
            yield Caller(f"{word}{whose}", word, by_key(text), elsewhere=bool(whose))
            yield Caller(f"{word}{whose}, exchanged", word, shown(token), elsewhere=bool(whose))


def ended(users: FakeUserService) -> Iterator[Caller]:
    """Return those whose rights have ended, as the feed says; their tokens are good otherwise."""
    every_scope = SCOPES_BY_ROLE[Role.ADMIN]
    suspended = Institution(institution_id="ins_suspended", mode=InstitutionMode.SANDBOX, base_currency="EUR")
    revoked = key_access("ask_test_revoked", HOME, *API_KEY_SCOPES, key_id="key_revoked", revoked=True)
    expired = key_access("ask_test_expired", HOME, *API_KEY_SCOPES, key_id="key_expired", expires_at=1)
    frozen = key_access("ask_test_suspended", suspended, *API_KEY_SCOPES, key_id="key_suspended")
    users.access += [
        *(institution_access(each) for each in (HOME, ELSEWHERE, PLATFORM)),
        institution_access(suspended, suspended=True),
        *(revoked, expired, frozen),
        EndedSession(session_id="ses_ended", until=epoch_ms() // 1000 + 3600),
    ]
    yield Caller("ended session", "", shown(users.user_token(sid="ses_ended", scopes=every_scope)))
    yield Caller(
        "suspended institution", "", shown(users.user_token(institution=suspended, scopes=every_scope))
    )
    yield Caller("key of a suspended institution", "", by_key("ask_test_suspended"))
    for name, access in {"revoked": revoked, "expired": expired}.items():
        yield Caller(f"{name} API key", "", by_key(f"ask_test_{name}"))
        yield Caller(f"{name} API key, exchanged", "", shown(users.api_key_token(access, institution=HOME)))


def strangers(good: str, key: SigningKey, known: Sequence[Caller]) -> Iterator[Caller]:
    """Return those whom nobody knows: without credentials, with bad ones, or with two; `good` is an admin's token."""
    forge = Forge(good, key)
    good_key = next(each.headers for each in known if each.is_known and each.headers[0][0] == "X-API-Key")
    expired = forge.signed(payload=forge.claims_bytes({"iat": forge.now - 960, "exp": forge.now - 60}))
    yield Caller("anonymous", "", ())
    yield Caller("expired token", "", shown(expired))
    yield Caller("token of an unknown key", "", shown(forge.signed(key=strange_key())))
    yield Caller("malformed token", "", shown("not.a.token"))
    yield Caller("malformed header", "", (("Authorization", good),))
    yield Caller("Basic credentials", "", (("Authorization", "Basic YWRtaW46YWRtaW4="),))
    yield Caller("unknown API key", "", by_key("ask_test_nobody"))
    yield Caller("empty API key", "", by_key(""))
    yield Caller("token as API key", "", by_key(good))
    yield Caller("token and unknown API key", "", (*shown(good), *by_key("ask_test_nobody")))
    yield Caller("token and API key", "", (*shown(good), *good_key))
    yield Caller("API key twice", "", good_key * 2)
