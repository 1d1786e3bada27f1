"""What is done about an account a moment after the answer."""

from enum import StrEnum

from sqlalchemy import BigInteger, ForeignKey, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from user_service.tables import Base


class TaskKind(StrEnum):
    """What is done."""

    RESET = "reset"  # mail a token that resets the password
    LOCKED = "locked"  # tell the owner that the account is locked
    REGISTRATION = "registration"  # mail the address somebody registers with


class AccountTaskRow(Base):
    """One task, about a user or a registration. `user_id` is empty when nobody has the address that was named.

    It is written in both cases, so that an answer tells nothing about who has an account, not even by its time.
    """

    __tablename__ = "account_tasks"

    task_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    user_id: Mapped[str | None] = mapped_column(ForeignKey("users.user_id", ondelete="CASCADE"))
    details: Mapped[str] = mapped_column(Text)  # what the kind needs to know, as JSON; may be empty
    request_id: Mapped[str] = mapped_column(String(64))  # of the request that caused it
    registration_id: Mapped[str | None] = mapped_column(
        ForeignKey("registrations.registration_id", ondelete="CASCADE")
    )
    asked_at_ms: Mapped[int] = mapped_column(BigInteger)
    failures: Mapped[int] = mapped_column(Integer)
    due_at_ms: Mapped[int] = mapped_column(BigInteger)  # later than it was asked for once it has failed
