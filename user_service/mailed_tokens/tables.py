"""Single-use tokens that were mailed."""

from sqlalchemy import BigInteger, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from common.tenancy import belongs_through
from user_service.tables import Base


class MailedTokenRow(Base):
    """One single-use token that was mailed: an invitation or a password reset. Its text is made from its id."""

    __tablename__ = "mailed_tokens"
    __table_args__ = ({"info": belongs_through("user_id", to="users.user_id")},)

    token_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.user_id", ondelete="CASCADE"), index=True)
    purpose: Mapped[str] = mapped_column(String(16))
    created_at_ms: Mapped[int] = mapped_column(BigInteger)
    expires_at_ms: Mapped[int] = mapped_column(BigInteger)
    used_at_ms: Mapped[int | None] = mapped_column(BigInteger)
