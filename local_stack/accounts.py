"""Accounts of the local stack, made and used through the real API."""

import json
import secrets
from dataclasses import asdict, dataclass, field

import httpx

from local_stack.errors import StackError
from local_stack.files import StackFiles, write_private

TIMEOUT_S = 30.0  # hashing a password lets everything else go first


class LoginRefusedError(StackError):
    """The account or client does not exist any more."""


@dataclass(frozen=True)
class Login:
    """An institution's admin."""

    institution_id: str
    institution_name: str
    email: str
    password: str = field(repr=False)


def register_sandbox(user_service_url: str, *, name: str) -> Login:
    """Register a sandbox institution with an admin nobody else has; raises `StackError`."""
    email = f"admin-{secrets.token_hex(5)}@assay.example"
    password = secrets.token_urlsafe(18)
    body = {
        "name": name,
        "mode": "sandbox",
        "base_currency": "EUR",
        "admin": {"email": email, "password": password, "full_name": "Local Admin"},
    }
    with _client(user_service_url) as client:
        response = client.post("/v1/institutions", json=body)
    if response.status_code != httpx.codes.CREATED:
        raise StackError(f"The institution was not registered: {response.status_code} {response.text}")
    return Login(response.json()["institution_id"], name, email, password)


def access_token(user_service_url: str, login: Login) -> str:
    """Return an access token; raises `LoginRefusedError`, `StackError`."""
    return log_in(user_service_url, email=login.email, password=login.password)


def log_in(user_service_url: str, *, email: str, password: str) -> str:
    """Return an access token of whoever has this password; raises `LoginRefusedError`, `StackError`."""
    with _client(user_service_url) as client:
        return _token(client.post("/v1/auth/login", json={"email": email, "password": password}))


def join(user_service_url: str, *, invitation: str, password: str) -> str:
    """Accept an invitation and return an access token; raises `LoginRefusedError`, `StackError`."""
    body = {"token": invitation, "password": password}
    with _client(user_service_url) as client:
        return _token(client.post("/v1/auth/invitations/accept", json=body))


def service_token(user_service_url: str, *, client_id: str, secret: str) -> str:
    """Return a token by client credentials; raises `LoginRefusedError`, `StackError`."""
    with _client(user_service_url) as client:
        response = client.post(
            "/v1/internal/service-tokens", json={"client_id": client_id, "client_secret": secret}
        )
    return _token(response)


def kept_login(user_service_url: str, files: StackFiles) -> Login:
    """Return the login that is kept with the stack's data; it is registered when there is none that works."""
    if files.login.exists():
        login = Login(**json.loads(files.login.read_text()))
        try:
            access_token(user_service_url, login)
        except LoginRefusedError:
            pass  # the accounts were deleted and the login was not
        else:
            return login
    login = register_sandbox(user_service_url, name="Harbour Payments (local sandbox)")
    write_private(files.login, json.dumps(asdict(login), indent=2) + "\n")
    return login


def _token(response: httpx.Response) -> str:
    if response.status_code == httpx.codes.UNAUTHORIZED:
        raise LoginRefusedError("The account or client is not known, or its secret is another one.")
    if response.status_code != httpx.codes.OK:
        raise StackError(f"No token was given: {response.status_code} {response.text}")
    return str(response.json()["access_token"])


def _client(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False)
