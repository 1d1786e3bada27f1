"""What it takes to register an institution, and what comes back."""

from pydantic import BaseModel, ConfigDict, Field

from common.contracts.fields import Contract
from common.contracts.institutions import Currency, InstitutionMode
from user_service.auth.schemas import NewPassword, Tokens
from user_service.names import Name
from user_service.users.email import EmailAddress


class FirstAdmin(Contract):
    """The person who registers the institution and runs it."""

    email: EmailAddress
    password: NewPassword = Field(description="12 to 128 characters")
    full_name: Name


class Registration(Contract):
    """A new institution."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "Harbour Payments",
                    "mode": "sandbox",
                    "base_currency": "EUR",
                    "admin": {
                        "email": "ada@harbour.example",
                        "password": "tide-and-lantern-42",
                        "full_name": "Ada Okafor",
                    },
                }
            ]
        }
    )

    name: Name
    mode: InstitutionMode = Field(description="live: decisions touch money; sandbox: they do not")
    base_currency: Currency = Field(description="ISO 4217; amounts are compared in it")
    admin: FirstAdmin


class Registered(BaseModel):
    """The new institution, its first admin, and a session of theirs."""

    institution_id: str
    user_id: str
    tokens: Tokens
