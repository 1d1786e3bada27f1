"""Codes that stand in for a lost second factor."""

from sqlalchemy import BigInteger, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from common.tenancy import belongs_through
from user_service.tables import Base


class RecoveryCodeRow(Base):
    """One code that stands in for a lost second factor, once; known only by its keyed digest."""

    __tablename__ = "recovery_codes"
    __table_args__ = ({"info": belongs_through("user_id", to="users.user_id")},)

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.user_id", ondelete="CASCADE"), index=True)
    used_at_ms: Mapped[int | None] = mapped_column(BigInteger)
