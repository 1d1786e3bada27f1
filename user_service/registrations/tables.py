"""Registrations that wait for their confirmation."""

from sqlalchemy import BigInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from user_service.tables import Base


class RegistrationRow(Base):
    """One registration, until it is confirmed or expires. The text of its mailed token is made from its id.

    An address that has an account is written down like any other, so that nothing here tells them apart; the token of
    such a row is never mailed. Neither is that of one whose address has had all its mails: another one's confirms it.
    """

    __tablename__ = "registrations"

    registration_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    institution_name: Mapped[str] = mapped_column(String(256))
    mode: Mapped[str] = mapped_column(String(16))
    base_currency: Mapped[str] = mapped_column(String(3))
    email: Mapped[str] = mapped_column(String(320))
    email_key: Mapped[str] = mapped_column(String(320), index=True)
    full_name: Mapped[str] = mapped_column(String(256))
    password_hash: Mapped[str] = mapped_column(String(256))
    created_at_ms: Mapped[int] = mapped_column(BigInteger)
    expires_at_ms: Mapped[int] = mapped_column(BigInteger, index=True)
