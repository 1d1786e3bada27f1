"""Sessions and their refresh tokens."""

from sqlalchemy import BigInteger, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from common.tenancy import belongs_through
from user_service.tables import Base


class SessionRow(Base):
    """One login and everything refreshed from it: the family of its refresh tokens, which ends as a whole."""

    __tablename__ = "sessions"
    __table_args__ = ({"info": belongs_through("user_id", to="users.user_id")},)

    session_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.user_id", ondelete="CASCADE"), index=True)
    created_at_ms: Mapped[int] = mapped_column(BigInteger)
    expires_at_ms: Mapped[int] = mapped_column(BigInteger)
    ended_at_ms: Mapped[int | None] = mapped_column(BigInteger)
    last_used_at_ms: Mapped[int] = mapped_column(BigInteger)
    access_expires_at_ms: Mapped[int] = mapped_column(BigInteger)  # of the newest access token
    ip_address: Mapped[str] = mapped_column(String(45))
    user_agent: Mapped[str] = mapped_column(String(256))


class RefreshTokenRow(Base):
    """One refresh token, known only by its SHA-256. A used one is kept until it expires, to notice its reuse."""

    __tablename__ = "refresh_tokens"
    __table_args__ = ({"info": belongs_through("session_id", to="sessions.session_id")},)

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    session_id: Mapped[str] = mapped_column(ForeignKey("sessions.session_id", ondelete="CASCADE"), index=True)
    access_token_id: Mapped[str] = mapped_column(String(64), index=True)
    created_at_ms: Mapped[int] = mapped_column(BigInteger)
    expires_at_ms: Mapped[int] = mapped_column(BigInteger)
    used_at_ms: Mapped[int | None] = mapped_column(BigInteger)
