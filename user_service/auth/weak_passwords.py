"""Passwords that are too easy to guess are refused."""

from common.errors import PlatformError
from user_service.auth.password_rules import weakness


class WeakPasswordError(PlatformError):
    """The new password is too easy to guess."""

    status_code = 422
    type = "weak-password"
    title = "The password is too easy to guess"


def refuse_weak(password: str, *, email: str, institution_name: str) -> None:
    """Raise `WeakPasswordError` for a new password that is among the first to be guessed."""
    reason = weakness(password, email=email, institution_name=institution_name)
    if reason is not None:
        raise WeakPasswordError(reason)
