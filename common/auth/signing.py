"""Making keys and signing tokens; only user_service calls this."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jose import jwk, jwt
from jose.backends.base import Key

from common.canonical import canonical_bytes, sha256_hex
from common.contracts.tokens import ALGORITHM, TOKEN_TYPE

KEY_BITS = 2048


@dataclass(frozen=True)
class SigningKey:
    """A private key and the id under which its public half is published."""

    kid: str
    private_pem: str


def generate_signing_key(*, passphrase: str) -> SigningKey:
    """Make a new RSA key, its PEM encrypted with `passphrase` (PKCS #8)."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=KEY_BITS)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(passphrase.encode()),
    ).decode()
    public = _public_numbers(key.public_key())
    return SigningKey(kid=sha256_hex(canonical_bytes(public))[:16], private_pem=pem)


def unlock(key: SigningKey, *, passphrase: str) -> SigningKey:
    """Return `key` with its PEM decrypted, for keeping in memory; raises `ValueError` for a wrong passphrase."""
    private = _load(key.private_pem, passphrase)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    return SigningKey(kid=key.kid, private_pem=pem)


def public_jwk(key: SigningKey) -> dict[str, str]:
    """Return the public half of an unlocked key as a JSON Web Key (RFC 7517)."""
    public = _public_numbers(_load(key.private_pem, None).public_key())
    return {**public, "kid": key.kid, "use": "sig", "alg": ALGORITHM}


def sign_access_token(claims: Mapping[str, Any], key: SigningKey) -> str:
    """Return `claims` as an access token (RFC 9068), signed with an unlocked key."""
    return jwt.encode(
        dict(claims),
        _signer(key.private_pem),
        algorithm=ALGORITHM,
        headers={"typ": TOKEN_TYPE, "kid": key.kid},
    )


@lru_cache(maxsize=16)
def _signer(pem: str) -> Key:
    """Parse `pem` once: reading and checking an RSA key takes a hundred times as long as signing with it."""
    return jwk.construct(pem, algorithm=ALGORITHM)


def _load(pem: str, passphrase: str | None) -> rsa.RSAPrivateKey:
    key = serialization.load_pem_private_key(pem.encode(), passphrase.encode() if passphrase else None)
    assert isinstance(key, rsa.RSAPrivateKey)  # noqa: S101 - no other kind is ever made here
    return key


def _public_numbers(key: rsa.RSAPublicKey) -> dict[str, str]:
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    found = jwk.construct(pem.decode(), algorithm=ALGORITHM).to_dict()
    return {name: _text(found[name]) for name in ("e", "kty", "n")}


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
