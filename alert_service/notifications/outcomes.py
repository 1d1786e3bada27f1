"""What a try to send a mail means for it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alert_service.alerts.schemas import MailState

PERMANENT_FROM = 500


@dataclass(frozen=True, slots=True)
class Reply:
    """How the mail server answered for one address; `code` is SMTP's (RFC 5321), None when it never answered."""

    code: int | None
    text: str

    @property
    def is_final(self) -> bool:
        """Whether the same mail would be refused again."""
        return self.code is not None and self.code >= PERMANENT_FROM

    @property
    def said(self) -> str:
        """Return the answer in one short line."""
        return self.text if self.code is None else f"{self.code} {self.text}"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try: addresses that were refused, or `failure` when the mail as a whole did not get through."""

    refused: Mapping[str, Reply]
    failure: Reply | None = None


@dataclass(frozen=True, slots=True)
class AfterAttempt:
    """What is to be written down: the mail's state, each address's state, and the last error."""

    state: MailState
    recipients: Mapping[str, tuple[MailState, str | None]]
    error: str | None


def after(attempt: Attempt, asked: Sequence[str], *, delivered_before: bool) -> AfterAttempt:
    """Return what an attempt to the addresses `asked` means.

    A temporary refusal keeps that address pending, a permanent one ends it. The mail is delivered when nobody is
    pending and somebody got it, now or before; it is a dead letter when nobody is pending and nobody got it.
    """
    states = {address: _state(address, attempt) for address in asked}
    values = [state for state, _ in states.values()]
    errors = [error for _, error in states.values() if error]
    if MailState.PENDING in values:
        state = MailState.PENDING
    elif MailState.DELIVERED in values or delivered_before:
        state = MailState.DELIVERED
    else:
        state = MailState.DEAD_LETTER
    return AfterAttempt(state, states, errors[0] if errors else None)


def _state(address: str, attempt: Attempt) -> tuple[MailState, str | None]:
    reply = attempt.failure or attempt.refused.get(address)
    if reply is None:
        return MailState.DELIVERED, None
    return (MailState.DEAD_LETTER if reply.is_final else MailState.PENDING), reply.said
