"""What the mail of a notice says: what happened and what to do. Pure.

Facts that a kind has words for (all may be missing): `invitation` role, invited_by_name; `invited_elsewhere`
invited_by_name; `account_locked` locked_until, locked_at, failures, last_address, password_was_right (only where it was,
and codes were wrong); `security_change` change; `quota` percent, policy; those of `oversight_words`; every kind
institution_name and institution_mode. All others are listed below the sentences by their own names.
"""

from collections.abc import Callable, Mapping

from alert_service.notifications.names import quoted, shown
from alert_service.notifications.notice_facts import Facts, written_time
from alert_service.notifications.oversight_words import DECIDES, OVERSEES, OVERSIGHT
from alert_service.notifications.words import ALARM, CALM, WARNING, Words
from common.contracts.access import OverQuota
from common.contracts.institutions import InstitutionMode
from common.contracts.notices import Notice, NoticeKind
from common.contracts.roles import Role
from common.texts import one_line

UNASKED = "If you did not ask for this, ignore this mail: without the token nothing happens."
REPORT = "Tell the admins of your institution when such mails come again."
TO_STRANGERS = frozenset({NoticeKind.INVITATION, NoticeKind.INVITED_ELSEWHERE})
"""What goes to whoever an admin names: it says as little of the admin's choosing as can be, and none in its subject."""

_ABOUT_THE_INSTITUTION = frozenset({"institution_name", "institution_mode"})
_LABELS = {
    "ip_address": "IP address",
    "invited_by_name": "Invited by",
    "policy": "Above the quota",
    "api_keys": "API keys",
    "key_id": "Key id",
    "by": "By whom",
    "email": "E-mail address",
    "wanted": "What is wanted",
}


def words_of(notice: Notice, *, institution_name: str) -> tuple[Words, list[tuple[str, str]]]:
    """Return what is said about `notice`, and as rows of a table what no sentence says."""
    facts = Facts(notice.facts)
    said = _WORDS[notice.kind](facts, institution_name)
    rows = [
        (_LABELS.get(name) or one_line(name.replace("_", " ")).capitalize(), value)
        for name, value in facts.untold
        if name not in _ABOUT_THE_INSTITUTION
    ]
    return said, [*rows, ("Time", written_time(notice.created_at)), ("Notice", notice.notice_id)]


def name_of(notice: Notice, *, known: str) -> str:
    """Return how the institution is called in the mail; `known` is its name where the notice does not say one."""
    name = one_line(notice.facts.get("institution_name", known)) or "your institution"
    return shown(name) if notice.kind in TO_STRANGERS else name


def heading_of(notice: Notice, *, institution_name: str) -> str:
    """Return what stands above the mail."""
    return "Invitation" if notice.kind in TO_STRANGERS else institution_name


def is_sandbox(notice: Notice) -> bool:
    """Whether the notice says that it is about an institution whose decisions touch no money."""
    return notice.facts.get("institution_mode") == InstitutionMode.SANDBOX.value


def why_you(notice: Notice, *, institution_name: str) -> str:
    """Return why somebody gets this mail."""
    if notice.kind in DECIDES:
        return "You get this because you are one of those who may decide on it."
    if notice.kind in OVERSEES or not notice.recipients:
        return f"You get this because you are an admin of {institution_name} in Assay."
    if notice.kind is NoticeKind.REGISTRATION:
        return "You get this because somebody gave your address to Assay when they registered an institution."
    if notice.kind in TO_STRANGERS:
        return (
            f"You get this because somebody who runs {quoted(institution_name)} gave your address to Assay."
        )
    return f"You get this because you have an account of {institution_name} in Assay."


def _registration(_facts: Mapping[str, str], _institution_name: str) -> Words:
    return Words(
        subject="Confirm that you registered an institution",
        colour=CALM,
        happened=[
            "Somebody registered an institution in Assay with your address, and a password of their choice."
        ],
        to_do=[
            "If that was you, confirm it with the token below and that password: then the institution is made and you "
            "run it."
        ],
        unasked=[
            "If that was not you, ignore this mail: without the token and that password nothing happens, and the "
            "registration is forgotten. Should you register today yourself and get no other mail, this token confirms it "
            "with your own password."
        ],
    )


def _address_in_use(_facts: Mapping[str, str], institution_name: str) -> Words:
    return Words(
        subject="Your address has an account already",
        colour=CALM,
        happened=[
            "Somebody tried to register an institution in Assay with your address.",
            f"It has an account of {institution_name} already, so nothing was registered; they were not told why.",
        ],
        to_do=[
            "If that was you, log in, or ask for a new password if you have forgotten yours. For another institution, "
            "use another address."
        ],
        unasked=["If that was not you, there is nothing to do: your account is as it was.", REPORT],
    )


def _invited_elsewhere(facts: Mapping[str, str], institution_name: str) -> Words:
    return Words(
        subject="You are invited to Assay, with another address",
        colour=CALM,
        happened=[
            _invites_you(facts, institution_name),
            "Your address has an account with another institution already, and an address has only one. "
            "Whoever invites you was not told.",
        ],
        to_do=["If you want to join, give them another address of yours, and they can invite that one."],
        unasked=["If you do not know who invites you, ignore this mail: your account is as it was.", REPORT],
    )


def _invitation(facts: Mapping[str, str], institution_name: str) -> Words:
    role = one_line(facts.get("role", ""))
    runs_the_platform = role == Role.OPERATOR.value
    return Words(
        subject="You are invited to run an Assay platform"
        if runs_the_platform
        else "You are invited to Assay",
        colour=CALM,
        happened=_run_the_platform(facts) if runs_the_platform else _work_with(facts, role, institution_name),
        to_do=["Choose a password of your own with the token below; then you can log in."],
        unasked=[
            "If you do not know who invites you, ignore this mail: without the token no account can be used."
        ],
    )


def _work_with(facts: Mapping[str, str], role: str, institution_name: str) -> list[str]:
    return [_invites_you(facts, institution_name), *([f"Your role will be: {role}."] if role else [])]


def _invites_you(facts: Mapping[str, str], institution_name: str) -> str:
    name = quoted(institution_name)
    return (
        f"{_inviter(facts)} invites you to work with {name} in Assay, where payments are checked for fraud."
    )


def _run_the_platform(facts: Mapping[str, str]) -> list[str]:
    return [
        f"{_inviter(facts)} invites you.",
        "Your role will be: operator. Operators see to the institutions, their tiers, and the keys that sign tokens.",
    ]


def _inviter(facts: Mapping[str, str]) -> str:
    name = one_line(facts.get("invited_by_name", ""))
    return quoted(name) if name else "An admin"


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
    until, where, failures, last = (
        facts.get(name, "") for name in ("locked_until", "locked_at", "failures", "last_address")
    )
    counted = f"{failures} times, the last time from {last}" if failures and last else "too often"
    closed = f"Nobody can log in to it {where}".rstrip()
    if facts.get("password_was_right", ""):
        tried = "Somebody who knows your password tried wrong codes"
        advice = "If that was not you, choose another password now: one that you use nowhere else."
    else:
        tried = "Somebody tried wrong passwords or codes"
        advice = (
            "If that was not you, somebody may be guessing your password: use one that you use nowhere else, "
            "and a second factor."
        )
    return Words(
        subject="Your account is locked for a while",
        colour=WARNING,
        happened=[
            f"{tried} for your account of {institution_name} {counted}.",
            f"{closed} until {until}." if until else f"{closed} for now.",
        ],
        to_do=[
            "If that was you, wait and try again, or ask for a new password: choosing it unlocks your account at once."
        ],
        unasked=[advice, REPORT],
    )


def _security_change(facts: Mapping[str, str], institution_name: str) -> Words:
    change = one_line(facts.get("change", "the security settings were changed")).removesuffix(".")
    return Words(
        subject=f"Your account: {change}",
        colour=WARNING,
        happened=[f"At {institution_name}: {change}."],
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
    NoticeKind.REGISTRATION: _registration,
    NoticeKind.ADDRESS_IN_USE: _address_in_use,
    NoticeKind.INVITATION: _invitation,
    NoticeKind.INVITED_ELSEWHERE: _invited_elsewhere,
    NoticeKind.PASSWORD_RESET: _password_reset,
    NoticeKind.ACCOUNT_LOCKED: _account_locked,
    NoticeKind.SECURITY_CHANGE: _security_change,
    NoticeKind.QUOTA: _quota,
    **OVERSIGHT,
}
