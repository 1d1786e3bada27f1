"""What an institution has in user_service: programs with keys, and a second admin with a second factor."""

import pyotp

from common.contracts.tokens import Scope
from tests.security.tenancy.banks import Answer, Bank
from tests.security.tenancy.letters import token_for


def make_keys(bank: Bank) -> None:
    """Make two API keys, and take a token for one of them."""
    for number in (1, 2):
        name = f"API key {number}"
        body = {"name": bank.made_up[f"{name}'s name"], "scopes": [Scope.DECISIONS_READ.value]}
        made = _ok(bank.call("POST", "user_service", "/v1/api-keys", json=body))
        bank.ids[name], bank.secrets[name] = made.json()["key_id"], made.json()["key"]
    form = {
        "grant_type": "client_credentials",
        "client_id": bank.ids["API key 1"],
        "client_secret": bank.secrets["API key 1"],
    }
    answer = _ok(bank.client.post(bank.url("user_service", "/v1/auth/token"), data=form))
    bank.secrets["token of an API key"] = answer.json()["access_token"]


def invite(bank: Bank, who: str) -> dict[str, str]:
    """Invite somebody to run the institution; return the member, or the request that waits for a second person."""
    body = {
        "email": bank.made_up[f"{who}'s e-mail"],
        "full_name": bank.made_up[f"{who}'s name"],
        "role": "admin",
    }
    found: dict[str, str] = _ok(bank.call("POST", "user_service", "/v1/users", json=body)).json()
    return found


def is_invited(bank: Bank) -> bool:
    """Whether the colleague's invitation has arrived."""
    return token_for(bank.stack, bank.made_up["colleague's e-mail"]) is not None


def join(bank: Bank) -> None:
    """Let the colleague join and add a second factor; from then on the institution has two admins."""
    token = token_for(bank.stack, bank.made_up["colleague's e-mail"])
    assert token is not None
    bank.mailed["invitation"], password = token, f"{bank.mark}-harbour-and-moss-88"
    bank.secrets["colleague's password"] = password
    accept = bank.url("user_service", "/v1/auth/invitations/accept")
    tokens = _ok(bank.client.post(accept, json={"token": token, "password": password})).json()
    bank.secrets["colleague's access token"] = tokens["access_token"]
    bank.secrets["colleague's refresh token"] = tokens["refresh_token"]
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    factor = bank.url("user_service", "/v1/users/me/second-factor")
    begun = _ok(bank.client.post(factor, json={"current_password": password}, headers=headers)).json()
    bank.secrets["TOTP secret"] = begun["secret"]
    code = pyotp.TOTP(begun["secret"]).now()
    codes = _ok(bank.client.post(f"{factor}/confirm", json={"code": code}, headers=headers)).json()
    for number, each in enumerate(codes["recovery_codes"]):
        bank.secrets[f"recovery code {number}"] = each


def note_ids(bank: Bank) -> None:
    """Look up the ids of sessions and requests."""
    for number, session in enumerate(bank.get("user_service", "/v1/users/me/sessions").json()["items"]):
        bank.ids[f"session {number}"] = session["session_id"]
    for request in bank.get("user_service", "/v1/approvals").json()["items"]:
        bank.ids[f"{request['state']} request"] = request["approval_id"]


def _ok(answer: Answer) -> Answer:
    assert answer.is_success, answer.text
    return answer
