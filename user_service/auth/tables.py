"""Sessions with their refresh tokens, and the signing keys."""

from sqlalchemy import BigInteger, ForeignKey, Integer, String, Text
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


class RecoveryCodeRow(Base):
    """One code that stands in for a lost second factor, once; known only by its keyed digest."""

    __tablename__ = "recovery_codes"
    __table_args__ = ({"info": belongs_through("user_id", to="users.user_id")},)

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.user_id", ondelete="CASCADE"), index=True)
    used_at_ms: Mapped[int | None] = mapped_column(BigInteger)


class AttemptsRow(Base):
    """Failed attempts of one account or one address; `key` is a digest that says which."""

    __tablename__ = "attempts"

    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    failures: Mapped[int] = mapped_column(Integer)
    first_at_ms: Mapped[int] = mapped_column(BigInteger)
    locked_until_ms: Mapped[int] = mapped_column(BigInteger)


class SigningKeyRow(Base):
    """One signing key, encrypted; `generation` lets only one process make it.

    It is published until `retired_at_ms`. Of those that may sign (`signs_from_ms` has come) the newest does.
    """

    __tablename__ = "signing_keys"

    kid: Mapped[str] = mapped_column(String(64), primary_key=True)
    generation: Mapped[int] = mapped_column(Integer, unique=True)
    encrypted_pem: Mapped[str] = mapped_column(Text)
    created_at_ms: Mapped[int] = mapped_column(BigInteger)
    signs_from_ms: Mapped[int] = mapped_column(BigInteger)
    retired_at_ms: Mapped[int | None] = mapped_column(BigInteger)
