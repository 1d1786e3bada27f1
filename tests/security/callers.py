"""Everybody who calls: people, services, API keys, and strangers whom no route may let in."""

from collections.abc import Iterator
from dataclasses import dataclass

from common.contracts.institutions import Institution, InstitutionMode
from common.contracts.tokens import API_KEY_SCOPES, Scope, TokenUse
from tests.factories import SANDBOX
from tests.fakes import FakeUserService
from tests.security.forging import Forge, strange_key
from user_service.auth.service_clients import OWN_SCOPES, SCOPES_BY_CLIENT
from user_service.users.roles import SCOPES_BY_ROLE, Role

HOME = SANDBOX
ELSEWHERE = Institution(institution_id="ins_elsewhere", mode=InstitutionMode.SANDBOX, base_currency="EUR")
KEYS_SCOPES = {f"key:{scope.value}": scope for scope in API_KEY_SCOPES}
SERVICES_SCOPES = {**SCOPES_BY_CLIENT, "user_service": OWN_SCOPES}
WORDS = frozenset({*Role, *KEYS_SCOPES, *(f"service:{name}" for name in SERVICES_SCOPES)})
"""The words of the policy for those who are known."""


@dataclass(frozen=True)
class Caller:
    """One who calls: `word` is what the policy calls them, empty for strangers.

    `ended` is somebody whose rights have ended; the signature of the token is still good.
    """

    name: str
    word: str
    headers: tuple[tuple[str, str], ...]
    elsewhere: bool = False
    ended: bool = False

    @property
    def is_known(self) -> bool:
        """Say whether the credentials are good."""
        return bool(self.word)


def shown(token: str) -> tuple[tuple[str, str], ...]:
    """Return the headers that show a token."""
    return (("Authorization", f"Bearer {token}"),)


def people(users: FakeUserService) -> Iterator[Caller]:
    """Return a person of every role, and an admin of another institution."""
    for role, scopes in SCOPES_BY_ROLE.items():
        token = users.user_token(role=role.value, scopes=scopes, institution=HOME, sub=f"usr_{role.value}")
        yield Caller(role.value, role.value, shown(token))
    elsewhere = users.user_token(
        scopes=SCOPES_BY_ROLE[Role.ADMIN], institution=ELSEWHERE, sub="usr_elsewhere"
    )
    yield Caller("admin of another institution", Role.ADMIN.value, shown(elsewhere), elsewhere=True)


def services(users: FakeUserService) -> Iterator[Caller]:
    """Return each of our own services, with the scopes that user_service gives it."""
    for name, scopes in SERVICES_SCOPES.items():
        word = f"service:{name}"
        yield Caller(word, word, shown(users.service_token(*scopes, subject=name)))


def api_keys(
    users: FakeUserService, home: Institution = HOME, elsewhere: Institution = ELSEWHERE
) -> Iterator[Caller]:
    """Return an API key of each scope, of both institutions, by the token it is exchanged for."""
    for word, scope in KEYS_SCOPES.items():
        yield Caller(word, word, shown(key_token(users, home, scope)))
        strange = key_token(users, elsewhere, scope)
        yield Caller(f"{word} of another institution", word, shown(strange), elsewhere=True)


def key_token(users: FakeUserService, institution: Institution, scope: Scope) -> str:
    """Sign the token of an API key."""
    of_key = {"sub": "key_test", "sid": "key_test", "token_use": TokenUse.API_KEY.value, "role": None}
    return users.user_token(institution=institution, scopes=[scope], **of_key)  # type: ignore[arg-type]


def strangers(users: FakeUserService, good: str) -> Iterator[Caller]:
    """Return those whom nobody knows: without credentials, or with bad ones; `good` is an admin's token."""
    forge = Forge(good, users.key)
    expired = forge.signed(payload=forge.claims_bytes({"iat": forge.now - 960, "exp": forge.now - 60}))
    yield Caller("anonymous", "", ())
    yield Caller("expired token", "", shown(expired))
    yield Caller("token of an unknown key", "", shown(forge.signed(key=strange_key())))
    yield Caller("malformed token", "", shown("not.a.token"))
    yield Caller("malformed header", "", (("Authorization", good),))
    yield Caller("Basic credentials", "", (("Authorization", "Basic YWRtaW46YWRtaW4="),))
