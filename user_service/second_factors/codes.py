"""Time-based codes (RFC 6238) and recovery codes (pure, but for the randomness of new ones)."""

import hmac
import secrets

import pyotp

STEP_S = 30
DRIFT_STEPS = 1
RECOVERY_CODES = 10
ISSUER = "Assay"
_ALPHABET = "abcdefghjkmnpqrstvwxyz23456789"  # nothing that is read as something else
_HALF = 6


def new_secret() -> str:
    """Return 160 random bits in base 32, as authenticator programs take them."""
    return pyotp.random_base32(32)


def enrolment_uri(secret: str, *, email: str) -> str:
    """Return what authenticator programs read from a QR code."""
    return pyotp.TOTP(secret).provisioning_uri(name=email, issuer_name=ISSUER)


def matching_step(secret: str, code: str, *, now_ms: int) -> int | None:
    """Return the time step of which `code` is the code: this one, the one before or the one after; None for none."""
    shown = plain(code).encode("utf-8", "surrogatepass")
    now = now_ms // 1000 // STEP_S
    factor = pyotp.TOTP(secret)
    steps = range(now - DRIFT_STEPS, now + DRIFT_STEPS + 1)
    matches = [step for step in steps if hmac.compare_digest(factor.generate_otp(step).encode(), shown)]
    return matches[-1] if matches else None


def new_recovery_codes() -> list[str]:
    """Return ten codes of 58 random bits each, e.g. `h4kz7m-3qwp9d`."""
    return [f"{_random(_HALF)}-{_random(_HALF)}" for _ in range(RECOVERY_CODES)]


def plain(code: str) -> str:
    """Return `code` without what people put between its characters."""
    return code.replace(" ", "").replace("-", "").lower()


def _random(characters: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(characters))
