"""What the tables of all features are declared on. Times are milliseconds since 1970-01-01 UTC."""

from pathlib import Path

from sqlalchemy.orm import DeclarativeBase


class Base(DeclarativeBase):
    """The one schema of user_service."""


MIGRATIONS = Path(__file__).parent / "migrations"
