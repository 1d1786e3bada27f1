"""Institutions: the tenants."""

from sqlalchemy import BigInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from common.contracts.institutions import Institution, InstitutionMode
from user_service.tables import Base


class InstitutionRow(Base):
    """One tenant."""

    __tablename__ = "institutions"

    institution_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(256))
    mode: Mapped[str] = mapped_column(String(16))
    base_currency: Mapped[str] = mapped_column(String(3))
    created_at_ms: Mapped[int] = mapped_column(BigInteger)
    tier: Mapped[str] = mapped_column(String(16))
    over_quota: Mapped[str] = mapped_column(String(16))
    suspended_at_ms: Mapped[int | None] = mapped_column(BigInteger)

    def as_contract(self) -> Institution:
        """Return what the other services know of it."""
        return Institution(
            institution_id=self.institution_id,
            mode=InstitutionMode(self.mode),
            base_currency=self.base_currency,
        )


PLATFORM_INSTITUTION_ID = "platform"
"""The institution of those who run the platform, which is nobody's tenant."""
