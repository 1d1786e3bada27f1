"""Forged signatures: by no key, by the public one, by the attacker's, or by the right one over something else."""

import base64
import hmac
import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS, PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from common.auth.signing import SigningKey
from tests.security.forging import GONE, Attack, Forge, private, published, segment, signature, strange_key


@cache
def _shared_secrets(key: SigningKey) -> dict[str, tuple[int, bytes]]:
    """Return all that is public, in every form that a verifier could mistake for a shared secret."""
    public = private(key).public_key()
    jwk = published(key)
    spki = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return {
        "the PEM": (6, spki),
        "the PEM without its last line break": (7, spki.strip()),
        "the PKCS #1 PEM": (7, public.public_bytes(Encoding.PEM, PublicFormat.PKCS1)),
        "the JWK": (8, json.dumps(jwk).encode()),
        "the JWK, compact": (8, json.dumps(jwk, separators=(",", ":"), sort_keys=True).encode()),
        "the modulus": (8, jwk["n"].encode()),
        "the DER": (9, public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)),
        "the PKCS #1 DER": (9, public.public_bytes(Encoding.DER, PublicFormat.PKCS1)),
        "the OpenSSH key": (10, public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)),
        "an OpenSSH key on a curve": (10, _curve_key()),
        "the key's id": (10, key.kid.encode()),
        "nothing": (48, b""),
        "a byte": (48, b"\x00"),
        "null": (48, b"null"),
        "a usual word": (49, b"secret"),
        "the placeholder": (49, b"change-me"),
    }


def _curve_key() -> bytes:
    return (
        ec.generate_private_key(ec.SECP256R1())
        .public_key()
        .public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    )


def _with_secret(name: str, algorithm: str) -> Callable[[Forge], str]:
    def build(forge: Forge) -> str:
        _, secret = _shared_secrets(forge.key)[name]
        message = forge.message(header=forge.header_bytes({"alg": algorithm}))
        return f"{message}.{segment(hmac.digest(secret, message.encode(), f'sha{algorithm[2:]}'))}"

    return build


def _no_signature(changes: dict[str, Any]) -> Callable[[Forge], str]:
    return lambda forge: forge.message(header=forge.header_bytes(changes)) + "."


def _other_rsa(algorithm: str) -> Callable[[Forge], str]:
    """Sign with the right key by another method than ours."""

    def build(forge: Forge) -> str:
        message = forge.message(header=forge.header_bytes({"alg": algorithm}))
        digest = {"256": SHA256(), "384": SHA384(), "512": SHA512()}[algorithm[2:]]
        padding = PSS(MGF1(digest), digest.digest_size) if algorithm.startswith("PS") else PKCS1v15()
        return f"{message}.{segment(private(forge.key).sign(message.encode(), padding, digest))}"

    return build


def _fixed_signature(data: bytes, **header: object) -> Callable[[Forge], str]:
    return lambda forge: f"{forge.message(header=forge.header_bytes(header))}.{segment(data)}"


def _own_key(header: Callable[[Forge], Mapping[str, object]]) -> Callable[[Forge], str]:
    """Sign with the attacker's key, and name it in the header."""
    return lambda forge: forge.signed(header=forge.header_bytes(header(forge)), key=strange_key())


def _pointed(name: str, forge: Forge) -> dict[str, object]:
    """Return the header field that says where the attacker's key is."""
    fields: dict[str, dict[str, object]] = {
        "jku": {"jku": f"{forge.server}/.well-known/jwks.json"},
        "x5u": {"x5u": f"{forge.server}/certificate.pem"},
        "jwk": {"jwk": published(strange_key())},
        "x5c": {"x5c": [base64.b64encode(b"certificate").decode()]},
    }
    return fields[name]


def _pointing(name: str) -> Iterator[Attack]:
    """Name the attacker's key: under the right id, under its own, and beside a good signature."""
    yield Attack(47, f"{name} and the attacker's key", _own_key(lambda forge: _pointed(name, forge)))
    yield Attack(
        47,
        f"{name} and the attacker's key under its own id",
        _own_key(lambda forge: {**_pointed(name, forge), "kid": strange_key().kid}),
    )
    yield Attack(
        47,
        f"{name} and the right key",
        lambda forge: forge.signed(header=forge.header_bytes(_pointed(name, forge))),
    )


def _tail(forge: Forge) -> str:
    return forge.good.rpartition(".")[2]


def _raised(changes: dict[str, object]) -> Callable[[Forge], str]:
    return lambda forge: f"{forge.message(payload=forge.claims_bytes(changes))}.{_tail(forge)}"


NO_ALG = _no_signature({"alg": "none"})
FIXED: list[Attack] = [
    Attack(1, "alg none without a signature", NO_ALG),
    Attack(1, "alg none with the good signature", lambda forge: NO_ALG(forge) + _tail(forge)),
    Attack(2, "alg nOnE without a signature", _no_signature({"alg": "nOnE"})),
    Attack(3, "no alg and no signature", _no_signature({"alg": GONE})),
    *(
        Attack(5, f"signed as {algorithm}", _other_rsa(algorithm))
        for algorithm in ("RS384", "RS512", "PS256", "PS512")
    ),
    Attack(50, "another key under the right id", _own_key(lambda _: {})),
    Attack(50, "another key under its own id", _own_key(lambda _: {"kid": strange_key().kid})),
    Attack(51, "signature cut off", lambda forge: forge.message() + "."),
    Attack(51, "half a signature", lambda forge: forge.good[:-170]),
    Attack(51, "a signature of zeros", _fixed_signature(bytes(256))),
    Attack(
        51,
        "the signature of another message",
        lambda forge: f"{forge.message()}.{segment(signature('another', forge.key))}",
    ),
    Attack(68, "ES256 with r = s = 0", _fixed_signature(bytes(64), alg="ES256")),
    Attack(68, "ES256 with r = s = 0 in DER", _fixed_signature(b"\x30\x06\x02\x01\0\x02\x01\0", alg="ES256")),
    Attack(72, "role raised after signing", _raised({"role": "operator"})),
    Attack(72, "scope raised after signing", _raised({"scope": "platform:write"})),
    Attack(72, "institution changed after signing", _raised({"institution_id": "ins_elsewhere"})),
    Attack(72, "life prolonged after signing", lambda forge: _raised({"exp": forge.now + 3000})(forge)),
    Attack(82, "another environment's token", _own_key(lambda _: {})),
]


def attacks() -> Iterator[Attack]:
    """Return all of them."""
    yield from FIXED
    for name in ("jku", "x5u", "jwk", "x5c"):
        yield from _pointing(name)
    for name, (number, _) in _shared_secrets(strange_key()).items():
        for algorithm in ("HS256", "HS384", "HS512"):
            shown = 5 if algorithm == "HS512" else number
            yield Attack(shown, f"{algorithm} with {name}", _with_secret(name, algorithm))
