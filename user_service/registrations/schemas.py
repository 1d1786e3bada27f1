"""What it takes to confirm a registration, and what is said while it waits."""

from typing import Literal

from pydantic import BaseModel, Field

from common.contracts.fields import Contract
from user_service.auth.schemas import PresentedMailedToken, PresentedPassword


class ConfirmationAwaited(BaseModel):
    """A mail is on its way; what it says depends on the address, this answer does not."""

    state: Literal["confirmation_awaited"] = "confirmation_awaited"
    expires_in: int = Field(description="seconds within which the token from the mail can be used")


class Confirmation(Contract):
    """Somebody shows that they read the mails of the address they registered with, and that it was they."""

    token: PresentedMailedToken
    password: PresentedPassword = Field(description="the one it was registered with")
