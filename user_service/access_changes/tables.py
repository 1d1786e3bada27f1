"""What changed about who may get in, in the order of the commits."""

from sqlalchemy import BigInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from user_service.tables import Base


class AccessChangeRow(Base):
    """The last change of one subject; what it is now is read from its own table."""

    __tablename__ = "access_changes"

    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    subject_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger, unique=True)
    mark: Mapped[str] = mapped_column(String(32))


class AccessMarkRow(Base):
    """The mark of one version, also once its subject has changed again.

    It is random: two databases that come from one backup never have the same version by the same mark, unless it was in
    the backup. So a service that names both is told only what came after, if the database has them.
    """

    __tablename__ = "access_marks"

    version: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    mark: Mapped[str] = mapped_column(String(32))
