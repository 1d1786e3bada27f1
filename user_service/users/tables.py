"""Users: the people of an institution."""

from sqlalchemy import BigInteger, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from user_service.tables import Base


class UserRow(Base):
    """One person. `email` is where mail is sent to; by `email_key` an institution has an address once.

    `login_key` is the `email_key` of whoever has joined, and so an address logs in to one account on the whole platform.
    Until an invited person has chosen a password, `password_hash` is empty and `login_key` is their id: an invitation
    reserves nothing.
    """

    __tablename__ = "users"
    __table_args__ = (Index("ix_users_address", "institution_id", "email_key", unique=True),)

    user_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    institution_id: Mapped[str] = mapped_column(ForeignKey("institutions.institution_id"), index=True)
    email: Mapped[str] = mapped_column(String(320))
    email_key: Mapped[str] = mapped_column(String(320))
    login_key: Mapped[str] = mapped_column(String(320), unique=True)
    full_name: Mapped[str] = mapped_column(String(256))
    role: Mapped[str] = mapped_column(String(16))
    password_hash: Mapped[str] = mapped_column(String(256))
    created_at_ms: Mapped[int] = mapped_column(BigInteger)
    last_login_at_ms: Mapped[int | None] = mapped_column(BigInteger)
    disabled_at_ms: Mapped[int | None] = mapped_column(BigInteger)
    led_until_ms: Mapped[int | None] = mapped_column(BigInteger)  # as an admin, or operator of the platform
    invited_by: Mapped[str | None] = mapped_column(String(64))
    totp_secret: Mapped[str | None] = mapped_column(String(256))  # encrypted
    totp_confirmed_at_ms: Mapped[int | None] = mapped_column(BigInteger)
    totp_last_step: Mapped[int | None] = mapped_column(BigInteger)  # no code works twice
