"""What the mail of a notice says: what happened, what to do, and how to use its token. Pure.

Facts that a kind has words for (all may be missing): `invitation` role, invited_by_name; `account_locked`
locked_until; `security_change` change; `quota` percent, policy; every kind institution_name and institution_mode. All other facts, and those of the sentences, are listed below them by their own names.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

from alert_service.notifications.envelope import one_line
from common.contracts.access import OverQuota
from common.contracts.institutions import InstitutionMode
from common.contracts.notices import Notice, NoticeKind

CALM, WARNING, ALARM = "#1d4ed8", "#8a6100", "#a3262a"
UNASKED = "If you did not ask for this, ignore this mail: without the token nothing happens."
REPORT = "Tell the admins of your institution when such mails come again."
_ABOUT_THE_INSTITUTION = frozenset({"institution_name", "institution_mode"})
_LABELS = {"ip_address": "IP address", "invited_by_name": "Invited by", "policy": "Above the quota"}
_USED_BY = {
    NoticeKind.INVITATION: ("POST /v1/auth/invitations/accept", "token and password"),
    NoticeKind.PASSWORD_RESET: ("POST /v1/auth/password-resets/confirm", "token and password"),
}
_POSTED_TO = ("POST /v1/auth", "token")


@dataclass(frozen=True, slots=True)
class Words:
    """What one kind of notice says of itself."""

    subject: str
    colour: str
    happened: Sequence[str]
    to_do: Sequence[str]
    unasked: Sequence[str]


@dataclass(frozen=True, slots=True)
class TokenUse:
    """How the token of a mail is used: by a link, or else where it is sent to and with which fields."""

    token: str
    link: str
    route: str
    fields: str
    ends: str


def words_of(notice: Notice, *, institution_name: str) -> Words:
    """Return what is said about `notice`."""
    return _WORDS[notice.kind](notice.facts, institution_name)


def name_of(notice: Notice, *, known: str) -> str:
    """Return how the institution is called in the mail; `known` is its name where the notice does not say one."""
    return one_line(notice.facts.get("institution_name", known)) or "your institution"


def is_sandbox(notice: Notice) -> bool:
    """Whether the notice says that it is about an institution whose decisions touch no money."""
    return notice.facts.get("institution_mode") == InstitutionMode.SANDBOX.value


def details_of(notice: Notice) -> list[tuple[str, str]]:
    """Return the facts as rows of a table, and the notice's own id."""
    rows = [
        (_LABELS.get(name) or one_line(name.replace("_", " ")).capitalize(), one_line(value))
        for name, value in notice.facts.items()
        if name not in _ABOUT_THE_INSTITUTION
    ]
    return [*rows, ("Time", _written(notice.created_at)), ("Notice", notice.notice_id)]


def token_use(notice: Notice, *, link: str) -> TokenUse | None:
    """Return how the notice's token is used, None for a notice without one; `link` holds `{token}`, or is empty."""
    if notice.secret is None:
        return None
    route, fields = _USED_BY.get(notice.kind, _POSTED_TO)
    return TokenUse(
        token=one_line(notice.secret),
        link=link.replace("{token}", quote(notice.secret, safe="")),
        route=route,
        fields=fields,
        ends="" if notice.expires_at is None else _written(notice.expires_at),
    )


def why_you(notice: Notice, *, institution_name: str) -> str:
    """Return why somebody gets this mail."""
    if not notice.recipients:
        return f"You get this because you are an admin of {institution_name} in Assay."
    if notice.kind is NoticeKind.INVITATION:
        return f"You get this because an admin of {institution_name} gave your address to Assay."
    return f"You get this because you have an account of {institution_name} in Assay."


def _invitation(facts: Mapping[str, str], institution_name: str) -> Words:
    by = one_line(facts.get("invited_by_name", "An admin"))
    role = one_line(facts.get("role", ""))
    return Words(
        subject=f"You are invited to {institution_name}",
        colour=CALM,
        happened=[
            f"{by} invites you to work with {institution_name} in Assay, where payments are checked for fraud.",
            *([f"Your role will be: {role}."] if role else []),
        ],
        to_do=["Choose a password of your own with the token below; then you can log in."],
        unasked=[
            "If you do not know who invites you, ignore this mail: without the token no account can be used.",
            REPORT,
        ],
    )


def _password_reset(_facts: Mapping[str, str], institution_name: str) -> Words:
    return Words(
        subject="Choose a new password",
        colour=CALM,
        happened=[f"Somebody asked for a new password for your account of {institution_name}."],
        to_do=[
            "If that was you, choose one with the token below. All your sessions end when you do.",
        ],
        unasked=[UNASKED, "Your password stays as it is.", REPORT],
    )


def _account_locked(facts: Mapping[str, str], institution_name: str) -> Words:
    until = one_line(facts.get("locked_until", ""))
    return Words(
        subject="Your account is locked for a while",
        colour=WARNING,
        happened=[
            f"Somebody tried too many wrong passwords or codes for your account of {institution_name}.",
            f"Nobody can log in to it until {until}." if until else "Nobody can log in to it for now.",
        ],
        to_do=["If that was you, wait and try again, or ask for a new password."],
        unasked=[
            "If that was not you, somebody may be guessing your password: use one that you use nowhere else, "
            "and a second factor.",
            REPORT,
        ],
    )


def _security_change(facts: Mapping[str, str], institution_name: str) -> Words:
    change = one_line(facts.get("change", "The security settings were changed"))
    return Words(
        subject="A change to the security of your account",
        colour=WARNING,
        happened=[f"At {institution_name}: {change.removesuffix('.')}."],
        to_do=["If you or an admin did this, there is nothing to do."],
        unasked=[
            "If nobody you know of did this, ask for a new password now, which ends all sessions, and tell the "
            "admins of your institution."
        ],
    )


def _quota(facts: Mapping[str, str], institution_name: str) -> Words:
    percent = one_line(facts.get("percent", "")).removesuffix("%").strip()
    share = f"{percent}% of the decisions" if percent else "Much of the decisions"
    blocks = facts.get("policy") == OverQuota.BLOCK.value
    return Words(
        subject=f"{share} of this month are used",
        colour=ALARM if percent.isdecimal() and int(percent) >= 100 else WARNING,
        happened=[
            f"{institution_name} has used {share[:1].lower() + share[1:]} that its tier has for a month."
        ],
        to_do=[
            "Above the quota, further transactions are refused until the month ends."
            if blocks
            else "Above the quota, transactions are still decided; nothing is refused.",
            "Ask the operator of the platform for another tier if you need more.",
        ],
        unasked=[
            "If you expect fewer transactions, look at which API keys are used, and revoke those you do not know."
        ],
    )


_WORDS: Mapping[NoticeKind, Callable[[Mapping[str, str], str], Words]] = {
    NoticeKind.INVITATION: _invitation,
    NoticeKind.PASSWORD_RESET: _password_reset,
    NoticeKind.ACCOUNT_LOCKED: _account_locked,
    NoticeKind.SECURITY_CHANGE: _security_change,
    NoticeKind.QUOTA: _quota,
}


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
