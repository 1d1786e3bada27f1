"""Tables partitioned by the month of a column of milliseconds: their partitions are made ahead, and a default takes the rest.

A partition is made as a table of its own and attached: unlike CREATE TABLE ... PARTITION OF this holds up neither
those who read the table nor those who write to its other partitions.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from sqlalchemy import Column, Connection, MetaData, Table, delete, func, insert, inspect, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import DDLElement
from sqlalchemy.sql.compiler import DDLCompiler

from common.row_security import protect
from common.tenancy import of_every_tenant

AHEAD = 3
DEFAULT = "default"
MAKING_LOCK = 5_307_114_862  # any number; the same for every process that makes partitions
LOCK_TIMEOUT = "2s"  # nobody waits longer because of a partition
MOST_COUNTED = 1_000
_MOVED = "rows of a month are moved into its partition for all"


@dataclass(frozen=True, order=True, slots=True)
class Month:
    """A calendar month, UTC."""

    year: int
    month: int

    @classmethod
    def of(cls, time_ms: int) -> Self:
        """Return the month of a time in milliseconds since 1970."""
        time = datetime.fromtimestamp(time_ms // 1000, UTC)
        return cls(time.year, time.month)

    @property
    def begin_ms(self) -> int:
        """When it begins, in milliseconds since 1970."""
        return int(datetime(self.year, self.month, 1, tzinfo=UTC).timestamp()) * 1000

    def later(self, months: int) -> "Month":
        """Return the month that comes so many months later."""
        years, month = divmod(self.month - 1 + months, 12)
        return Month(self.year + years, month + 1)


class CreatePartition(DDLElement):
    """CREATE TABLE for a partition-to-be of `parent`: the same columns, no rows, attached to nothing yet."""

    def __init__(self, parent: str, name: str) -> None:
        self.parent, self.name = parent, name


class AttachPartition(DDLElement):
    """ALTER TABLE ... ATTACH PARTITION: for one month, or as the default when that is None."""

    def __init__(self, parent: str, name: str, month: Month | None) -> None:
        self.parent, self.name, self.month = parent, name, month


class LockTable(DDLElement):
    """LOCK TABLE, against everybody else."""

    def __init__(self, name: str) -> None:
        self.name = name


def partition_name(table: str, month: Month | None) -> str:
    """Return e.g. `decisions_2026_11`, or `decisions_default`."""
    return f"{table}_{DEFAULT}" if month is None else f"{table}_{month.year:04}_{month.month:02}"


def create_partition(connection: Connection, table: str, month: Month | None) -> None:
    """Make the partition for `month`, or the default, of a table that has no row of that time yet."""
    name = partition_name(table, month)
    _create_apart(connection, table, name)
    connection.execute(AttachPartition(table, name, month))


class MonthlyPartitions:
    """The partitions of one table by the month of its column `column`; the default partition is there already."""

    def __init__(self, table: Table, column: str) -> None:
        self._table = table
        self._column = column
        self._default = self._partition(None)

    def make_ahead(self, connection: Connection, *, now_ms: int) -> bool:
        """Make what is missing for this month and the next; return False while another process is at it.

        To be committed before rows are moved: from then on those who insert have nothing to do with the default.
        """
        if not _is_our_turn(connection):
            return False
        present = Month.of(now_ms)
        for months in range(AHEAD + 1):
            self._ensure(connection, present.later(months))
        return True

    def move_one(self, connection: Connection) -> bool:
        """Move the rows of one month of the default to where they belong; return whether there may be more."""
        if not _is_our_turn(connection):
            return False
        first = connection.scalar(of_every_tenant(select(func.min(self._time)), _MOVED))
        if first is None:
            return False
        return self._ensure(connection, Month.of(first))  # one that somebody detached is left as it is

    def left(self, connection: Connection) -> int:
        """Return how many rows are in the default; 1000 is that many or more."""
        some = select(self._time).limit(MOST_COUNTED).subquery()
        return connection.scalar(of_every_tenant(select(func.count()).select_from(some), _MOVED)) or 0

    @property
    def _time(self) -> Column[Any]:
        return self._default.c[self._column]

    def _ensure(self, connection: Connection, month: Month) -> bool:
        """Make the partition of `month`, with what the default has of it; return False where such a table is there."""
        name = partition_name(self._table.name, month)
        if inspect(connection).has_table(name):
            return False
        connection.execute(LockTable(self._default.name))
        _create_apart(connection, self._table.name, name)
        moved = (
            delete(self._default)
            .where(self._time >= month.begin_ms, self._time < month.later(1).begin_ms)
            .returning(*self._default.c)
            .cte("moved")
        )
        into = insert(self._partition(month)).from_select(list(self._table.c.keys()), select(*moved.c))
        connection.execute(of_every_tenant(into, _MOVED))
        connection.execute(AttachPartition(self._table.name, name, month))
        return True

    def _partition(self, month: Month | None) -> Table:
        return self._table.to_metadata(MetaData(), name=partition_name(self._table.name, month))


def _is_our_turn(connection: Connection) -> bool:
    if not connection.scalar(select(func.pg_try_advisory_xact_lock(MAKING_LOCK))):
        return False
    connection.execute(select(func.set_config("lock_timeout", LOCK_TIMEOUT, True)))
    return True


def _create_apart(connection: Connection, table: str, name: str) -> None:
    """Make a partition-to-be; who asks for its rows by its own name meets the policy of its table there too."""
    connection.execute(CreatePartition(table, name))
    schema = MetaData()
    Table(name, schema, autoload_with=connection)
    protect(connection, schema)


@compiles(CreatePartition)
def _create(element: CreatePartition, compiler: DDLCompiler, **_: object) -> str:
    name, parent = compiler.preparer.quote(element.name), compiler.preparer.quote(element.parent)
    return f"CREATE TABLE {name} (LIKE {parent} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)"


@compiles(AttachPartition)
def _attach(element: AttachPartition, compiler: DDLCompiler, **_: object) -> str:
    name, parent = compiler.preparer.quote(element.name), compiler.preparer.quote(element.parent)
    month = element.month
    values = (
        "DEFAULT"
        if month is None
        else f"FOR VALUES FROM ({month.begin_ms:d}) TO ({month.later(1).begin_ms:d})"
    )
    return f"ALTER TABLE {parent} ATTACH PARTITION {name} {values}"


@compiles(LockTable)
def _lock(element: LockTable, compiler: DDLCompiler, **_: object) -> str:
    return f"LOCK TABLE {compiler.preparer.quote(element.name)} IN ACCESS EXCLUSIVE MODE"
