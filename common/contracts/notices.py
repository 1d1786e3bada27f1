"""What other services ask alert_service to mail to certain people, once each."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from common.contracts.fields import ONE_LINE, Contract, Identifier, Text, Timestamp

MAX_NOTICES = 64
MAX_RECIPIENTS = 500
MAX_FACTS = 32
MAX_ADDRESS = 254


Address = Annotated[str, Field(min_length=1, max_length=MAX_ADDRESS, pattern=ONE_LINE)]
"""Where a mail goes."""


class NoticeKind(StrEnum):
    """What a notice is about; each has words of its own."""

    REGISTRATION = "registration"
    ADDRESS_IN_USE = "address_in_use"
    INVITATION = "invitation"
    INVITED_ELSEWHERE = "invited_elsewhere"
    PASSWORD_RESET = "password_reset"  # noqa: S105 - a kind of mail, no secret
    ACCOUNT_LOCKED = "account_locked"
    SECURITY_CHANGE = "security_change"
    QUOTA = "quota"
    API_KEY = "api_key"
    APPROVAL_WAITING = "approval_waiting"
    APPROVAL_DECIDED = "approval_decided"
    ROLE_CHANGED = "role_changed"
    MEMBER_CHANGED = "member_changed"
    SESSION_REUSED = "session_reused"


class Notice(Contract):
    """One mail. `notice_id` is stable, so a repeated delivery is recognised.

    Without `recipients` it goes to the institution's admins. `facts` are what its template shows; `secret`, where a
    kind has one, is the single-use token: it is forgotten as soon as the mail is out.
    """

    notice_id: Identifier
    kind: NoticeKind
    institution_id: Identifier
    recipients: tuple[Address, ...] = Field(max_length=MAX_RECIPIENTS)
    facts: dict[Identifier, Text] = Field(max_length=MAX_FACTS)
    secret: str | None = Field(None, min_length=1, max_length=256, pattern=ONE_LINE, repr=False)
    created_at: Timestamp
    expires_at: Timestamp | None = Field(None, description="no use in mailing it later")


class NoticeBatch(Contract):
    """Notices that are handed over together."""

    notices: tuple[Notice, ...] = Field(min_length=1, max_length=MAX_NOTICES)


class NoticesAccepted(Contract):
    """How many were new and how many had been accepted before; all of them are durable."""

    accepted: int
    repeated: int
