"""Numbers without gaps, in the order of the commits."""

from sqlalchemy import BigInteger, String
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from user_service.statements import insert_or
from user_service.tables import Base


class CounterRow(Base):
    """The last number that was given out under a name; whoever takes the next one holds the row until the commit."""

    __tablename__ = "counters"

    name: Mapped[str] = mapped_column(String(128), primary_key=True)
    last: Mapped[int] = mapped_column(BigInteger)


async def next_number(session: AsyncSession, name: str) -> int:
    """Return the next number of `name`, beginning with 1; a rollback takes it back."""
    taken = (
        insert_or(session, CounterRow)
        .values(name=name, last=1)
        .on_conflict_do_update(index_elements=["name"], set_={"last": CounterRow.last + 1})
        .returning(CounterRow.last)
    )
    return int((await session.execute(taken)).scalar_one())
