"""A mail, as the one who sends it holds it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail that this process may send now; it tells one notice, or alerts."""

    mail_id: str
    institution_id: str
    message_id: str
    attempts: int
    created_at_ms: int
    notice_id: str | None
