"""How an institution is seen and changed."""

from datetime import datetime
from typing import Self

from pydantic import BaseModel, Field, model_validator

from common.contracts.access import Allowance, OverQuota, Tier
from common.contracts.fields import Contract
from common.contracts.institutions import InstitutionMode
from user_service.institutions.tables import InstitutionRow
from user_service.institutions.tiers import allowance_of
from user_service.names import Name
from user_service.times import to_time, to_time_or_none


class InstitutionView(BaseModel):
    """An institution as it is now."""

    institution_id: str
    name: str
    mode: InstitutionMode
    base_currency: str
    created_at: datetime
    allowance: Allowance
    suspended_at: datetime | None = Field(description="nobody of it is let in from then on")


class InstitutionPage(BaseModel):
    """Some institutions, newest first."""

    items: list[InstitutionView]
    next_cursor: str | None


class _Change(Contract):
    """What is to change; what is left out stays as it is."""

    @model_validator(mode="after")
    def _says_what_to_change(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("there is nothing to change")
        if any(getattr(self, name) is None for name in self.model_fields_set):
            raise ValueError("a field that stays as it is is left out, not null")
        return self


class InstitutionChange(_Change):
    """What an operator changes of an institution; what is left out stays as it is."""

    tier: Tier | None = None
    suspended: bool | None = Field(None, strict=True, description="true: nobody of it is let in")


class OwnInstitutionChange(_Change):
    """What an admin changes of their institution; what is left out stays as it is."""

    name: Name | None = Field(None, examples=["Harbour Payments"])
    over_quota: OverQuota | None = Field(None, description="what happens to decisions beyond the quota")


def view_of(row: InstitutionRow) -> InstitutionView:
    """Return an institution as people see it."""
    return InstitutionView(
        institution_id=row.institution_id,
        name=row.name,
        mode=InstitutionMode(row.mode),
        base_currency=row.base_currency,
        created_at=to_time(row.created_at_ms),
        allowance=allowance_of(Tier(row.tier), OverQuota(row.over_quota)),
        suspended_at=to_time_or_none(row.suspended_at_ms),
    )
