"""A user, as they see and change themselves."""

from datetime import datetime
from typing import Self

from pydantic import BaseModel, Field, model_validator

from common.contracts.fields import Contract
from common.contracts.institutions import InstitutionMode
from common.contracts.roles import Role
from user_service.auth.schemas import NewPassword, PresentedPassword
from user_service.names import Name


class InstitutionProfile(BaseModel):
    """The institution a user belongs to."""

    institution_id: str
    name: str
    mode: InstitutionMode
    base_currency: str


class UserProfile(BaseModel):
    """Everything a user may see of themselves."""

    user_id: str
    email: str
    full_name: str
    role: Role
    second_factor: bool = Field(description="whether the login asks for a code")
    institution: InstitutionProfile
    created_at: datetime
    last_login_at: datetime | None


class ProfileChange(Contract):
    """What a user changes; what is left out stays as it is."""

    full_name: Name | None = Field(None, examples=["Ada Okafor"])
    password: NewPassword | None = None
    current_password: PresentedPassword | None = Field(None, description="needed for a new password")

    @model_validator(mode="after")
    def _says_what_to_change(self) -> Self:
        given = self.model_fields_set
        if any(getattr(self, name) is None for name in given):
            raise ValueError("a field that stays as it is is left out, not null")
        if ("password" in given) != ("current_password" in given):
            raise ValueError("a new password comes with the current one")
        if not given:
            raise ValueError("there is nothing to change")
        return self
