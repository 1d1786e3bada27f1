"""The table of which model is in use."""

from sqlalchemy import BigInteger, Column, Integer, MetaData, String, Table

metadata = MetaData()

model_choices = Table(
    "model_choices",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),  # the newest one counts
    Column("name", String(64), nullable=False),
    Column("version", String(64), nullable=False),
    Column("manifest_sha256", String(64), nullable=False),
    Column("chosen_at_ms", BigInteger, nullable=False),
)
