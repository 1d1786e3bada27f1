"""Keys for several purposes out of the one secret that user_service is given.

None of them is in the database, so whoever has only the database can neither make nor check what they protect.
"""

import base64
import hashlib
import hmac
from dataclasses import dataclass, field

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

_SALT = b"assay user_service derived keys 1"
_SCRYPT = {"n": 2**14, "r": 8, "p": 1, "maxmem": 64 * 1024 * 1024}


@dataclass(frozen=True)
class DerivedKeys:
    """One 32-byte key for each purpose: they tell nothing about one another."""

    api_keys: bytes = field(repr=False)
    mailed_tokens: bytes = field(repr=False)
    recovery_codes: bytes = field(repr=False)
    attempts: bytes = field(repr=False)
    second_factors: Fernet = field(repr=False)


def derive_keys(passphrase: str) -> DerivedKeys:
    """Return the keys of `passphrase`: scrypt (RFC 7914), about 50 ms, then HKDF-Expand (RFC 5869)."""
    secret = hashlib.scrypt(passphrase.encode(), salt=_SALT, dklen=32, **_SCRYPT)

    def key_for(purpose: str) -> bytes:
        return HKDFExpand(algorithm=SHA256(), length=32, info=purpose.encode()).derive(secret)

    return DerivedKeys(
        api_keys=key_for("api keys"),
        mailed_tokens=key_for("mailed tokens"),
        recovery_codes=key_for("recovery codes"),
        attempts=key_for("attempts"),
        second_factors=Fernet(base64.urlsafe_b64encode(key_for("second factors"))),
    )


def keyed_digest(key: bytes, text: str) -> str:
    """Return HMAC-SHA256 of `text` in hex."""
    return hmac.new(key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
