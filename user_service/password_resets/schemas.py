"""What it takes to get back in without the password."""

from pydantic import Field

from common.contracts.fields import Contract
from user_service.auth.schemas import NewPassword, PresentedMailedToken
from user_service.users.email import EmailAddress


class ResetRequest(Contract):
    """Somebody has forgotten their password."""

    email: EmailAddress = Field(examples=["admin@example.org"])


class ResetConfirmation(Contract):
    """They choose another, with the token from the mail."""

    token: PresentedMailedToken
    password: NewPassword = Field(description="12 to 128 characters")
