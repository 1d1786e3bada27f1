"""What callers send to log in and stay logged in, and what they get."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field, SecretStr

from common.contracts.fields import Contract
from user_service.auth.password_rules import form_fault, normalised
from user_service.users.email import EmailAddress


def _new_password(password: SecretStr) -> SecretStr:
    chosen = normalised(password.get_secret_value())
    fault = form_fault(chosen)
    if fault is not None:
        raise ValueError(fault)
    return SecretStr(chosen)


NewPassword = Annotated[SecretStr, Field(max_length=1024), AfterValidator(_new_password)]
"""A password somebody chooses, normalised; 12 to 128 characters."""

PresentedPassword = Annotated[SecretStr, Field(min_length=1, max_length=1024)]
"""A password somebody shows; whether it is right is found out by its hash alone."""

PresentedRefreshToken = Annotated[SecretStr, Field(min_length=1, max_length=256)]


PresentedMailedToken = Annotated[SecretStr, Field(min_length=1, max_length=256)]
"""The token from a mail."""

PresentedCode = Annotated[SecretStr, Field(min_length=1, max_length=64)]
"""A code of a second factor, or a recovery code."""


class Credentials(Contract):
    """Who wants to log in."""

    email: EmailAddress = Field(examples=["admin@example.org"])
    password: PresentedPassword
    code: PresentedCode | None = Field(
        None, description="of the second factor, where the account has one; a recovery code does as well"
    )


class RefreshRequest(Contract):
    """The session that is to go on, or to end."""

    refresh_token: PresentedRefreshToken


class Tokens(BaseModel):
    """A session's tokens. The refresh token works once: it is replaced by the one in the next reply."""

    access_token: str
    token_type: str = "Bearer"  # noqa: S105 - RFC 6750's scheme name, no secret
    expires_in: int = Field(description="seconds the access token is valid", examples=[900])
    refresh_token: str


class PublicKey(BaseModel):
    """A JSON Web Key (RFC 7517)."""

    kty: str
    n: str
    e: str
    kid: str
    use: str
    alg: str


class KeySet(BaseModel):
    """The keys that verify our access tokens."""

    keys: tuple[PublicKey, ...]
