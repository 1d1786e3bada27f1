"""The keys that sign tokens."""

from sqlalchemy import BigInteger, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from user_service.tables import Base


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
