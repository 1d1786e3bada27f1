"""What happened to institutions, people and keys: the record that goes into the audit archive."""

from sqlalchemy import BigInteger, ForeignKey, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from user_service.tables import Base


class IdentityEventRow(Base):
    """One event; `body` is its canonical JSON, archived byte for byte."""

    __tablename__ = "identity_events"
    __table_args__ = (UniqueConstraint("institution_id", "sequence"),)

    event_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    institution_id: Mapped[str] = mapped_column(ForeignKey("institutions.institution_id"))
    sequence: Mapped[int] = mapped_column(BigInteger)
    created_at_ms: Mapped[int] = mapped_column(BigInteger)
    action: Mapped[str] = mapped_column(String(64))
    body: Mapped[bytes] = mapped_column(LargeBinary)
