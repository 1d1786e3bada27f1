"""The scoring service's database, by SQLAlchemy's ORM."""

from datetime import datetime

from sqlalchemy import JSON, DateTime, Engine, Float, String, create_engine, event
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.pool import ConnectionPoolEntry

POOL_SIZE = 100  # with the default of five, requests that wait for one another would wait for ever


class Base(DeclarativeBase):
    """All tables."""


class Decision(Base):
    """One decision; the request and what it was scored by are kept beside it."""

    __tablename__ = "decisions"

    decision_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    institution_id: Mapped[str] = mapped_column(String(64))
    transaction_id: Mapped[str] = mapped_column(String(64), unique=True)
    customer_id: Mapped[str] = mapped_column(String(64), index=True)
    outcome: Mapped[str] = mapped_column(String(16))
    risk_level: Mapped[str] = mapped_column(String(16))
    fraud_probability: Mapped[float] = mapped_column(Float)
    request: Mapped[dict[str, object]] = mapped_column(JSON)
    features: Mapped[dict[str, object]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


def open_engine(url: str) -> Engine:
    """Open the database, as durable as the product's: a commit is on the disk."""
    engine = create_engine(url, pool_size=POOL_SIZE, connect_args={"check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _set_up(connection: object, _entry: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()  # type: ignore[attr-defined]
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.close()

    Base.metadata.create_all(engine)
    return engine
