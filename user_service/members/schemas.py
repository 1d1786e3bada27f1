"""The people of an institution, as its admins see and change them."""

from datetime import datetime
from enum import StrEnum
from typing import Self

from pydantic import BaseModel, Field, StrictBool, model_validator

from common.contracts.fields import Contract
from common.contracts.roles import SCOPES_BY_ROLE, Role
from common.contracts.tokens import Scope
from user_service.api_keys.schemas import KeyOfMember
from user_service.auth.schemas import NewPassword, PresentedMailedToken
from user_service.names import Name
from user_service.users.email import EmailAddress


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


class ChangedMember(Member):
    """Somebody who was changed, and what they leave behind."""

    api_keys: tuple[KeyOfMember, ...] = Field(
        description="keys they made, if they may not make any more: they go on working unless they were revoked"
    )


class MemberPage(BaseModel):
    """Some of an institution's people, the newest last; `next_cursor` is null on the last page."""

    items: tuple[Member, ...]
    next_cursor: str | None


class Invitation(Contract):
    """Somebody who is to join, and as what."""

    email: EmailAddress = Field(examples=["grace@example.org"])
    full_name: Name = Field(examples=["Grace Adeyemi"])
    role: Role


class MemberChange(Contract):
    """What an admin changes; what is left out stays as it is."""

    role: Role | None = None
    disabled: StrictBool | None = None
    revoke_api_keys: StrictBool = Field(
        False, description="end the keys they made too; only with what takes the right to make keys away"
    )

    @model_validator(mode="after")
    def _says_what_to_change(self) -> Self:
        given = self.model_fields_set
        if any(getattr(self, name) is None for name in given):
            raise ValueError("a field that stays as it is is left out, not null")
        if not given - {"revoke_api_keys"}:
            raise ValueError("there is nothing to change")
        if self.revoke_api_keys and not (self.disabled or _makes_no_keys(self.role)):
            raise ValueError(
                "API keys are revoked of somebody who is disabled or gets a role that makes none"
            )
        return self


class Acceptance(Contract):
    """Somebody who was invited joins."""

    token: PresentedMailedToken
    password: NewPassword = Field(description="12 to 128 characters")
    full_name: Name | None = Field(None, description="in place of the one in the invitation")


def _makes_no_keys(role: Role | None) -> bool:
    return role is not None and Scope.API_KEYS_WRITE not in SCOPES_BY_ROLE[role]
