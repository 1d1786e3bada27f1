"""The people of an institution, as its admins see and change them."""

from datetime import datetime
from enum import StrEnum
from typing import Self

from pydantic import BaseModel, Field, StrictBool, model_validator

from common.contracts.fields import Contract
from user_service.auth.schemas import NewPassword, PresentedMailedToken
from user_service.users.email import EmailAddress
from user_service.users.roles import Role
from user_service.users.schemas import Name


class MemberState(StrEnum):
    """What has become of somebody: invited and not here yet, active, or disabled."""

    INVITED = "invited"
    ACTIVE = "active"
    DISABLED = "disabled"


class Member(BaseModel):
    """One person of an institution."""

    user_id: str
    email: str
    full_name: str
    role: Role
    state: MemberState
    second_factor: bool
    invited_by: str | None = Field(description="the id of who invited them")
    created_at: datetime
    last_login_at: datetime | None


class MemberPage(BaseModel):
    """A part of an institution's people, the newest last; `total` counts all of them."""

    items: tuple[Member, ...]
    page: int
    limit: int
    total: int


class Invitation(Contract):
    """Somebody who is to join, and as what."""

    email: EmailAddress = Field(examples=["grace@example.org"])
    full_name: Name = Field(examples=["Grace Adeyemi"])
    role: Role


class MemberChange(Contract):
    """What an admin changes; what is left out stays as it is."""

    role: Role | None = None
    disabled: StrictBool | None = None

    @model_validator(mode="after")
    def _says_what_to_change(self) -> Self:
        given = self.model_fields_set
        if any(getattr(self, name) is None for name in given):
            raise ValueError("a field that stays as it is is left out, not null")
        if not given:
            raise ValueError("there is nothing to change")
        return self


class Acceptance(Contract):
    """Somebody who was invited joins."""

    token: PresentedMailedToken
    password: NewPassword = Field(description="12 to 128 characters")
    full_name: Name | None = Field(None, description="in place of the one in the invitation")
