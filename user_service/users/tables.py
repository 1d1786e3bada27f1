"""Users: the people of an institution."""

from sqlalchemy import BigInteger, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from user_service.tables import Base


class UserRow(Base):
    """One person. `email_key` decides whether an address is taken; `email` is the one that mail is sent to.

    `password_hash` is empty until an invited person has chosen a password.
    """

    __tablename__ = "users"

    user_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    institution_id: Mapped[str] = mapped_column(ForeignKey("institutions.institution_id"), index=True)
    email: Mapped[str] = mapped_column(String(320))
    email_key: Mapped[str] = mapped_column(String(320), unique=True)
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
