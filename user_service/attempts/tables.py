"""Failed attempts, and the addresses that an account is known at: all of them as keyed digests."""

from sqlalchemy import BigInteger, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from user_service.tables import Base


class AttemptsRow(Base):
    """Failed attempts (`policy.Tally`); `key` is a digest that says of what, `account` one that says at which account."""

    __tablename__ = "attempts"

    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    account: Mapped[str | None] = mapped_column(String(64), index=True)
    failures: Mapped[int] = mapped_column(Integer)
    first_at_ms: Mapped[int] = mapped_column(BigInteger, index=True)
    locked_until_ms: Mapped[int] = mapped_column(BigInteger)
    paced_until_ms: Mapped[int] = mapped_column(BigInteger)
    waits_until_ms: Mapped[int] = mapped_column(BigInteger)
    on_account: Mapped[int] = mapped_column(Integer)
    on_account_since_ms: Mapped[int] = mapped_column(BigInteger)
    window_ms: Mapped[int] = mapped_column(BigInteger, server_default="1800000")


class KnownAddressRow(Base):
    """An address at which somebody has shown that an account is theirs; `key` is a digest of both."""

    __tablename__ = "known_addresses"

    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    account: Mapped[str] = mapped_column(String(64), index=True)
    seen_at_ms: Mapped[int] = mapped_column(BigInteger, index=True)
