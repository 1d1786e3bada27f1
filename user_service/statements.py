"""What statements of several repositories have in common, on either engine."""

from sqlalchemy import CursorResult, Delete, Update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from user_service.tables import Base


async def rows_changed(session: AsyncSession, statement: Update | Delete) -> int:
    """Run `statement` and return how many rows it changed; what the session has read stays as it was read."""
    result = await session.execute(statement.execution_options(synchronize_session=False))
    assert isinstance(result, CursorResult)  # noqa: S101 - what an UPDATE and a DELETE return
    return result.rowcount


def insert_or(session: AsyncSession, table: type[Base]) -> postgresql.Insert | sqlite.Insert:
    """Return an INSERT that can say what happens to a row that is there already."""
    is_postgresql = session.get_bind().dialect.name == "postgresql"
    return postgresql.insert(table) if is_postgresql else sqlite.insert(table)
