"""The table of what changed for all processes of a service."""

from sqlalchemy import BigInteger, Column, MetaData, String, Table

FOR_ALL = ""
"""The scope of a change that concerns every institution; of others it is the institution's id."""


def changes_table(metadata: MetaData) -> Table:
    """Declare the table in the schema of a service; a migration makes it."""
    return Table(
        "changes",
        metadata,
        Column("scope", String(64), primary_key=True),
        Column("topic", String(64), primary_key=True),
        Column("version", BigInteger, nullable=False),
        Column("changed_at_ms", BigInteger, nullable=False),
    )
