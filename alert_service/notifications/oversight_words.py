"""What mails say by which people keep an eye on one another: keys, requests, roles, stolen sessions. Pure.

Facts that have words here (all may be missing): `api_key` change, key_name, key_prefix, key_id, by, works_until;
`approval_waiting` wanted, asked_by, until; `approval_decided` wanted, decision, decided_by; `role_changed` role, by;
`member_changed` member, change, by, api_keys; `session_reused` none.
"""

from collections.abc import Callable, Mapping

from alert_service.notifications.words import ALARM, CALM, WARNING, Words
from common.contracts.notices import NoticeKind
from common.texts import one_line

SOMEBODY = "Somebody"
OVERSEES = frozenset({NoticeKind.API_KEY, NoticeKind.MEMBER_CHANGED})
"""What goes to those who run the institution, whether the notice names them or not."""

DECIDES = frozenset({NoticeKind.APPROVAL_WAITING})
EXPECTED = "If you know about this, there is nothing to do."


def _api_key(facts: Mapping[str, str], institution_name: str) -> Words:
    change, name = _said(facts, "change", "changed"), _said(facts, "key_name", "without a name")
    prefix, until = _said(facts, "key_prefix", ""), _said(facts, "works_until", "")
    key_id = _said(facts, "key_id", "{key_id}")
    mend = (
        "make another key for the programs that used it"
        if change == "revoked"
        else f"end the key (DELETE /v1/api-keys/{key_id})"
    )
    return Words(
        subject=f"API key {change}: {name}",
        colour=WARNING,
        happened=[
            f"{_said(facts, 'by', SOMEBODY)} {change} the API key {name}{f' ({prefix}...)' if prefix else ''} of "
            f"{institution_name}.",
            *([f"The key before it works until {until}."] if until else []),
        ],
        to_do=[EXPECTED],
        unasked=[
            f"If nobody you know of did this: {mend}, end that person's sessions "
            "(DELETE /v1/users/{user_id}/sessions), and look at the audit records."
        ],
    )


def _approval_waiting(facts: Mapping[str, str], institution_name: str) -> Words:
    wanted, until = _said(facts, "wanted", "do something that needs two"), _said(facts, "until", "")
    approval = _said(facts, "approval_id", "{approval_id}")
    return Words(
        subject=f"Your decision is needed: {wanted}",
        colour=WARNING,
        happened=[
            f"{_said(facts, 'asked_by', SOMEBODY)} asks to {wanted} at {institution_name}. It needs a second person.",
            *([f"Nothing is done unless somebody agrees by {until}."] if until else []),
        ],
        to_do=[
            f"Ask them whether they want this, in another way than by mail. Then POST /v1/approvals/{approval}/approve, "
            "or /refuse."
        ],
        unasked=["If they did not ask for it, refuse it: somebody else may be using their account."],
    )


def _approval_decided(facts: Mapping[str, str], institution_name: str) -> Words:
    decision, wanted = _said(facts, "decision", "decided on"), _said(facts, "wanted", "do something")
    return Words(
        subject=f"What you asked for was {decision}: {wanted}",
        colour=CALM,
        happened=[
            f"You asked to {wanted} at {institution_name}. {_said(facts, 'decided_by', SOMEBODY)} {decision} it."
        ],
        to_do=[EXPECTED],
        unasked=[
            "If you did not ask for this, somebody else may be using your account: choose a new password now, which "
            "ends all sessions, and tell the other admins."
        ],
    )


def _role_changed(facts: Mapping[str, str], institution_name: str) -> Words:
    role, by = _said(facts, "role", "another one"), _said(facts, "by", SOMEBODY)
    return Words(
        subject="Your role was changed",
        colour=WARNING,
        happened=[
            f"{by} changed your role at {institution_name}. It is now: {role}.",
            "Your sessions have ended.",
        ],
        to_do=["Log in again to go on with your new role."],
        unasked=["If you do not know why, ask the admins of your institution."],
    )


def _member_changed(facts: Mapping[str, str], institution_name: str) -> Words:
    member, change = _said(facts, "member", "A colleague"), _said(facts, "change", "changed")
    by, keys = _said(facts, "by", SOMEBODY), _said(facts, "api_keys", "")
    return Words(
        subject=f"{member}: {change}",
        colour=WARNING,
        happened=[
            f"At {institution_name}, {member} was {change} by {by}.",
            *([f"API keys that {member} made, see below: {keys}."] if keys else []),
        ],
        to_do=[_about_left_keys(keys)],
        unasked=["If nobody you know of did this, undo it and end the sessions of whoever did."],
    )


def _about_left_keys(keys: str) -> str:
    if not keys:
        return EXPECTED
    if keys.endswith("revoked"):
        return "The programs that used these keys are refused now: make new keys for those that are still needed."
    return (
        "API keys belong to the institution and do not end with whoever made them. Revoke those that this person "
        "could still use (DELETE /v1/api-keys/{key_id}); rotate the others."
    )


def _session_reused(_facts: Mapping[str, str], institution_name: str) -> Words:
    return Words(
        subject="Somebody else may have used your session",
        colour=ALARM,
        happened=[
            f"A token of your account of {institution_name} that had been replaced was shown a second time.",
            "So it may be in two hands, and its session has ended for both.",
        ],
        to_do=[
            "Log in again. Look at your sessions (GET /v1/users/me/sessions) and end those that you do not know."
        ],
        unasked=[
            "If you do not know the address below, choose a new password now, which ends all sessions, and tell the "
            "admins of your institution."
        ],
    )


def _said(facts: Mapping[str, str], name: str, otherwise: str) -> str:
    return one_line(facts.get(name, "")) or otherwise


OVERSIGHT: Mapping[NoticeKind, Callable[[Mapping[str, str], str], Words]] = {
    NoticeKind.API_KEY: _api_key,
    NoticeKind.APPROVAL_WAITING: _approval_waiting,
    NoticeKind.APPROVAL_DECIDED: _approval_decided,
    NoticeKind.ROLE_CHANGED: _role_changed,
    NoticeKind.MEMBER_CHANGED: _member_changed,
    NoticeKind.SESSION_REUSED: _session_reused,
}
