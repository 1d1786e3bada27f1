"""Single-use tokens that are mailed. Their text is made from their id, so it is stored nowhere."""

import hmac
from enum import StrEnum

from user_service.derived_keys import keyed_digest
from user_service.mailed_tokens.schemas import TokenMailed
from user_service.times import DAY_MS, HOUR_MS


class Purpose(StrEnum):
    """What a mailed token is for; it is good for nothing else."""

    INVITATION = "invitation"
    PASSWORD_RESET = "password_reset"  # noqa: S105 - a purpose, no secret


LIFE_MS = {Purpose.INVITATION: 7 * DAY_MS, Purpose.PASSWORD_RESET: HOUR_MS}


def token_text(key: bytes, token_id: str) -> str:
    """Return what the mail holds: the id and its keyed digest."""
    return f"{token_id}.{keyed_digest(key, token_id)}"


def token_id_of(key: bytes, text: str) -> str | None:
    """Return the id in a text that we made, None for any other text."""
    token_id, _, _ = text.partition(".")
    is_ours = hmac.compare_digest(
        token_text(key, token_id).encode("utf-8", "surrogatepass"), text.encode("utf-8", "surrogatepass")
    )
    return token_id if is_ours else None


def mailed(purpose: Purpose) -> TokenMailed:
    """Return what whoever asked for a mail is told."""
    return TokenMailed(expires_in=LIFE_MS[purpose] // 1000)
