"""What somebody can do about their account from a mail: follow a link, or send a request that is written out. Pure."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from common.contracts.notices import Notice, NoticeKind

CHOSEN = "..."  # no password is as short: whoever forgets to put their own there is refused, and the token stays good
_USED_BY = {
    NoticeKind.REGISTRATION: "/v1/institutions/confirm",
    NoticeKind.INVITATION: "/v1/auth/invitations/accept",
    NoticeKind.PASSWORD_RESET: "/v1/auth/password-resets/confirm",
}
_ANOTHER = "a password of 12 or more characters"
_RESETS = "/v1/auth/password-resets"
_NEEDS_ANOTHER_PASSWORD = frozenset({NoticeKind.ACCOUNT_LOCKED, NoticeKind.SECURITY_CHANGE})


@dataclass(frozen=True, slots=True)
class AccountPlaces:
    """Where people see to their accounts: a page whose address holds `{token}`, or none; and user_service's address."""

    link: str
    api_url: str


@dataclass(frozen=True, slots=True)
class AccountRequest:
    """A link to follow, or else a command to send, after what it is for."""

    intro: str
    link: str = ""
    command: str = ""


def request_of(notice: Notice, places: AccountPlaces) -> AccountRequest | None:
    """Return what the mail of `notice` offers to do, None for nothing."""
    if notice.secret is not None:
        return _with_token(notice, notice.secret, places)
    if notice.kind in _NEEDS_ANOTHER_PASSWORD and len(notice.recipients) == 1 and not places.link:
        command = _command(places, _RESETS, {"email": notice.recipients[0]})
        return AccountRequest("To ask for a new password, run this in a terminal:", command=command)
    return None


def _with_token(notice: Notice, token: str, places: AccountPlaces) -> AccountRequest:
    if places.link:
        return AccountRequest("Open Assay and go on", places.link.replace("{token}", quote(token, safe="")))
    path = _USED_BY.get(notice.kind)
    if path is None:
        return AccountRequest("Your token:", command=token)
    which = "the password that you chose" if notice.kind is NoticeKind.REGISTRATION else _ANOTHER
    return AccountRequest(
        f"Put {which} in the place of {CHOSEN} and run this in a terminal:",
        command=_command(places, path, {"token": token, "password": CHOSEN}),
    )


def _command(places: AccountPlaces, path: str, body: Mapping[str, str]) -> str:
    """Return a request in short lines, so that no mail program breaks them."""
    content = shlex.quote(json.dumps(body, ensure_ascii=False))
    url = shlex.quote(places.api_url.rstrip("/") + path)
    return f"curl -s {url} \\\n  -H 'Content-Type: application/json' \\\n  -d {content}"
