"""What alert_service still has to be asked to mail, and what was mailed to one address."""

from sqlalchemy import BigInteger, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from user_service.tables import Base


class NoticeRow(Base):
    """One notice, until alert_service has it. Its secret is not in here: it is made from `token_id` when it is sent."""

    __tablename__ = "notices"

    notice_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    body: Mapped[str] = mapped_column(Text)
    token_id: Mapped[str | None] = mapped_column(String(64))
    created_at_ms: Mapped[int] = mapped_column(BigInteger)


class MailCountRow(Base):
    """How many mails of one purpose were asked for since `first_at_ms`.

    `whom` is an address, a person, an institution, or the digest of where registrations came from.
    """

    __tablename__ = "mail_counts"

    purpose: Mapped[str] = mapped_column(String(32), primary_key=True)
    whom: Mapped[str] = mapped_column(String(320), primary_key=True)
    mails: Mapped[int] = mapped_column(Integer)
    first_at_ms: Mapped[int] = mapped_column(BigInteger)
