"""What it takes to attack with tokens: any bytes as header and payload, signed by the right key or any other."""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from common.auth.signing import SigningKey, public_jwk
from common.clock import epoch_ms
from tests.fakes import FakeUserService, new_key

MEGABYTE = 1_000_000
Header = tuple[bytes, bytes]


class Gone(Enum):
    """What stands in place of a value whose name is left out."""

    GONE = "gone"

    def __repr__(self) -> str:
        return "missing"


GONE: object = Gone.GONE


def segment(data: bytes) -> str:
    """Return `data` as a part of a token."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def content(part: str) -> bytes:
    """Return the bytes of a token's part."""
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def signature(message: str, key: SigningKey) -> bytes:
    """Sign as RS256 does."""
    return private(key).sign(message.encode(), PKCS1v15(), SHA256())


@cache
def strange_key() -> SigningKey:
    """Return the attacker's own key."""
    return new_key()


@cache
def private(key: SigningKey) -> RSAPrivateKey:
    """Return the private key itself."""
    found = load_pem_private_key(key.private_pem.encode(), None)
    assert isinstance(found, RSAPrivateKey)
    return found


@cache
def published(key: SigningKey) -> dict[str, str]:
    """Return what everybody may know of a key."""
    return public_jwk(key)


@dataclass(frozen=True)
class Forge:
    """A good token, the key that signed it, and a server of the attacker's that wants to be asked for keys."""

    good: str
    key: SigningKey
    server: str = "https://attacker.example"

    @property
    def header(self) -> dict[str, Any]:
        """Return the header of the good token."""
        found: dict[str, Any] = json.loads(content(self.good.split(".")[0]))
        return found

    @property
    def claims(self) -> dict[str, Any]:
        """Return the claims of the good token."""
        found: dict[str, Any] = json.loads(content(self.good.split(".")[1]))
        return found

    @property
    def now(self) -> int:
        """Return the seconds since 1970."""
        return epoch_ms() // 1000

    def header_bytes(self, changes: Mapping[str, object]) -> bytes:
        """Return the good header with `changes`."""
        return _changed(self.header, changes)

    def claims_bytes(self, changes: Mapping[str, object]) -> bytes:
        """Return the good claims with `changes`."""
        return _changed(self.claims, changes)

    def message(self, *, header: bytes | None = None, payload: bytes | None = None) -> str:
        """Return the signed part of a token; what is not given is as in the good one."""
        head, body, _ = self.good.split(".")
        return (
            f"{head if header is None else segment(header)}.{body if payload is None else segment(payload)}"
        )

    def signed(
        self, *, header: bytes | None = None, payload: bytes | None = None, key: SigningKey | None = None
    ) -> str:
        """Sign any two byte strings, with the right key unless another is given: nothing but the gate is in the way."""
        message = self.message(header=header, payload=payload)
        return f"{message}.{segment(signature(message, key or self.key))}"


@dataclass(frozen=True)
class Attempt:
    """What an attack adds to a request, and the token of which nothing may come back."""

    headers: tuple[Header, ...]
    token: str
    query: Mapping[str, str] | None = None

    @property
    def pieces(self) -> list[str]:
        """Return those parts of the token that would be recognised, each by its beginning."""
        return [part[:40] for part in self.token.split(".") if len(part) >= 16]


@dataclass(frozen=True)
class Attack:
    """A token that must open nothing; `number` is that of the list in docs/security.md."""

    number: int
    name: str
    token: Callable[[Forge], str]

    def __str__(self) -> str:
        return f"{self.number} {self.name}"

    def attempt(self, forge: Forge) -> Attempt:
        """Show the token as a good one is shown."""
        token = self.token(forge)
        return Attempt(((b"authorization", b"Bearer " + token.encode("utf-8", "surrogatepass")),), token)


def forge_of(issuer: FakeUserService) -> Forge:
    """Return a forge around a user's token of `issuer`."""
    return Forge(issuer.user_token(), issuer.key)


def _changed(good: Mapping[str, Any], changes: Mapping[str, object]) -> bytes:
    found = {**good, **changes}
    return json.dumps({name: value for name, value in found.items() if value is not GONE}).encode()
