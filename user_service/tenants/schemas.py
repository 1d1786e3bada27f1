"""What it takes to register an institution, and what comes back."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from common.contracts.fields import Contract
from common.contracts.institutions import Currency, InstitutionMode
from user_service.auth.schemas import NewPassword, Tokens
from user_service.names import Name
from user_service.users.email import EmailAddress


class FirstAdmin(Contract):
    """The person who registers the institution, or for whom an operator does, and who runs it."""

    email: EmailAddress
    password: NewPassword | None = Field(
        None, description="12 to 128 characters; refused where operators register: the admin chooses it then"
    )
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


class AdminInvited(BaseModel):
    """The new institution and its first admin, who joins with the token that they are mailed."""

    state: Literal["admin_invited"] = "admin_invited"
    institution_id: str
    user_id: str
    expires_in: int = Field(description="seconds for which the token in the mail is good")
