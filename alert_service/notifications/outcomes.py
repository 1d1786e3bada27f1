"""What a try to send a mail means for it. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from alert_service.alerts.schemas import MailState

PERMANENT_FROM = 500
NOBODY_KNOWN = "nobody is known to send this to"
EXPIRED = "it was of no use any more"


@dataclass(frozen=True, slots=True)
class Reply:
    """How the mail server answered; `code` is SMTP's (RFC 5321). Without a code, `text` is our own words."""

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

    @property
    def logged(self) -> str:
        """Return what may be logged: servers repeat addresses in their texts."""
        return self.text if self.code is None else str(self.code)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try: addresses that were refused, or `failure` when the mail as a whole did not get through.

    `reached` tells whether the mail server was there and let us in.
    """

    refused: Mapping[str, Reply]
    failure: Reply | None = None
    reached: bool = True

    @property
    def replies(self) -> list[Reply]:
        """Return everything that went wrong."""
        return [self.failure] if self.failure else list(self.refused.values())


@dataclass(frozen=True, slots=True)
class AfterAttempt:
    """What is to be written down: the mail's state, each address's state, and the last error."""

    state: MailState
    recipients: Mapping[str, tuple[MailState, str | None]]
    error: str | None

    @property
    def somebody_got_it(self) -> bool:
        """Whether this attempt delivered the mail to anybody."""
        return any(state is MailState.DELIVERED for state, _ in self.recipients.values())


def after(
    attempt: Attempt, asked: Sequence[str], *, delivered_before: bool, give_up: bool = False
) -> AfterAttempt:
    """Return what an attempt to the addresses `asked` means.

    A temporary refusal keeps that address pending, a permanent one ends it; with `give_up`, an address that is
    refused temporarily ends too. A mail that did not get through as a whole is kept for everybody, unless its
    contents were refused for good. The mail is delivered when nobody is pending and somebody got it, now or
    before; it is a dead letter when nobody is pending and nobody got it.
    """
    states = {address: _state(address, attempt, give_up=give_up) for address in asked}
    errors = [error for _, error in states.values() if error]
    state = _joined((state for state, _ in states.values()), delivered_before=delivered_before)
    return AfterAttempt(state, states, errors[0] if errors else None)


def with_nobody_to_ask(told: Mapping[str, MailState], *, somebody_is_known: bool) -> AfterAttempt:
    """Return what it means that a mail has no address left that is to be asked.

    While an institution has no admin at all, a mail that nobody got waits for one.
    """
    if MailState.DELIVERED in told.values():
        return AfterAttempt(MailState.DELIVERED, {}, None)
    if somebody_is_known:
        return AfterAttempt(MailState.DEAD_LETTER, {}, "no address is left that takes mail")
    return AfterAttempt(MailState.PENDING, {}, NOBODY_KNOWN)


def expired(told: Mapping[str, MailState]) -> AfterAttempt:
    """Return what it means that a mail is of no use any more: who did not get it yet never will."""
    late = {
        address: (MailState.EXPIRED, EXPIRED) for address, state in told.items() if state is MailState.PENDING
    }
    if MailState.DELIVERED in told.values():
        return AfterAttempt(MailState.DELIVERED, late, None)
    return AfterAttempt(MailState.EXPIRED, late, EXPIRED)


def _joined(states: Iterable[MailState], *, delivered_before: bool) -> MailState:
    found = set(states)
    if MailState.PENDING in found:
        return MailState.PENDING
    if MailState.DELIVERED in found or delivered_before:
        return MailState.DELIVERED
    return MailState.DEAD_LETTER


def _state(address: str, attempt: Attempt, *, give_up: bool) -> tuple[MailState, str | None]:
    reply = attempt.failure or attempt.refused.get(address)
    if reply is None:
        return MailState.DELIVERED, None
    ends = reply.is_final or (give_up and attempt.failure is None)
    return (MailState.DEAD_LETTER if ends else MailState.PENDING), reply.said
