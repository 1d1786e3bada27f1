"""Every way to get in with a token that was not given to you: a table of named attacks.

The numbers are those of the list in docs/security.md. `TOKENS` are tokens that must open nothing; `REQUESTS` show a good
token where none is read, or in a form that is not taken.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tests.security import forged_contents, forged_signatures, other_spellings
from tests.security.forging import Attack, Attempt, Forge, Header

TOKENS: list[Attack] = [
    *forged_contents.attacks(),
    *forged_signatures.attacks(),
    *other_spellings.attacks(),
]
"""Tokens that must open nothing."""


@dataclass(frozen=True)
class RequestAttack:
    """A good token in the wrong place or form."""

    number: int
    name: str
    headers: Callable[[str], tuple[Header, ...]]
    query: str = ""

    def __str__(self) -> str:
        return f"{self.number} {self.name}"

    def attempt(self, forge: Forge) -> Attempt:
        """Show the good token of `forge` in this way."""
        query = {self.query: forge.good} if self.query else None
        return Attempt(self.headers(forge.good), forge.good, query)


def _headers(*pairs: tuple[str, str]) -> Callable[[str], tuple[Header, ...]]:
    """Make headers in which `{}` stands for the good token."""
    return lambda token: tuple((name.encode(), value.replace("{}", token).encode()) for name, value in pairs)


REQUESTS: list[RequestAttack] = [
    RequestAttack(69, "the same twice", _headers(("authorization", "Bearer {}"), ("authorization", "Bearer {}"))),
    RequestAttack(69, "good, then Basic", _headers(("authorization", "Bearer {}"), ("authorization", "Basic eDp5"))),
    RequestAttack(69, "Basic, then good", _headers(("authorization", "Basic eDp5"), ("authorization", "Bearer {}"))),
    RequestAttack(69, "good, then empty", _headers(("authorization", "Bearer {}"), ("authorization", ""))),
    RequestAttack(69, "empty, then good", _headers(("authorization", ""), ("authorization", "Bearer {}"))),
    *(
        RequestAttack(70, f"written {value!r}", _headers(("authorization", value)))
        for value in (
            "Bearer", "Bearer ", "", "{}", "Basic {}", "Token {}", "JWT {}", "Bearer  {}", "Bearer\t{}", "Bearer{}", "Bearer:{}",
            "Bearer={}", "Bearer, {}", " Bearer {}", "Bearer {},", "Bearer {};", "Bearer {}, Bearer {}", "Bearer {} {}", 'Bearer "{}"',
            "Bearer '{}'", "Bearer <{}>", "Bearer token={}", "Bearer Bearer {}", "BearerX {}", "Digest {}", "Negotiate {}", "Bеarer {}",
        )
    ),
    *(
        RequestAttack(71, f"in {name}: {value}", _headers((name, value)))
        for name, value in (
            ("cookie", "access_token={}"), ("cookie", "Authorization=Bearer {}"), ("cookie", "__Host-session={}"),
            ("x-authorization", "Bearer {}"), ("proxy-authorization", "Bearer {}"), ("x-access-token", "{}"), ("x-auth-token", "{}"),
            ("x-forwarded-authorization", "Bearer {}"), ("x-original-authorization", "Bearer {}"), ("authentication", "Bearer {}"),
            ("www-authenticate", "Bearer {}"), ("sec-websocket-protocol", "bearer, {}"),
        )
    ),
    *(RequestAttack(71, f"in the query as {name}", _headers(), query=name) for name in ("access_token", "token", "authorization", "jwt")),
    RequestAttack(85, "in X-API-Key", _headers(("x-api-key", "{}"))),
    RequestAttack(85, "in X-API-Key with the scheme", _headers(("x-api-key", "Bearer {}"))),
    RequestAttack(85, "an API key nobody gave out", _headers(("x-api-key", "ask_live_0123456789abcdef0123456789abcdef"))),
    RequestAttack(85, "good, and an API key nobody gave out", _headers(("authorization", "Bearer {}"), ("x-api-key", "ask_test_0123456789"))),
]  # fmt: skip
"""Good tokens that are not shown as tokens are shown."""
