"""What it takes to add and remove a second factor."""

from pydantic import BaseModel, Field

from common.contracts.fields import Contract
from user_service.auth.schemas import PresentedCode, PresentedPassword


class SecondFactorRequest(Contract):
    """A user wants a second factor."""

    current_password: PresentedPassword


class SecondFactorBegun(BaseModel):
    """What an authenticator program needs. It is shown once, and asked for once a code of it was confirmed."""

    secret: str = Field(description="base 32; 6 digits, 30 seconds, SHA-1 (RFC 6238)")
    otpauth_uri: str = Field(description="the same for a QR code")


class SecondFactorConfirmation(Contract):
    """The first code, which shows that the authenticator program has the secret."""

    code: PresentedCode


class RecoveryCodes(BaseModel):
    """Codes that stand in for a lost second factor, once each. They are shown once."""

    recovery_codes: tuple[str, ...]


class SecondFactorRemoval(Contract):
    """A user does without their second factor; a recovery code does as well."""

    current_password: PresentedPassword
    code: PresentedCode
