"""Moves a service's database to another engine or server: the story of `assay move`."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import make_url

from assay.databases import DATABASES, ServiceDatabase
from assay.digests import RowFacts
from assay.errors import InUseError, LeftOverError, NotEmptyError, OperationError, OtherSchemaError
from assay.in_use import refuse_used
from assay.postgres import refuse_others
from assay.reading import Snapshot, changes_seen, codec_of, differences, shown, snapshot_of, table_names
from assay.writing import staged

Step = Callable[[str, int], None]
"""Called with what is done, and how many rows were done since it was last called."""
ROWS_A_STEP = 500


@dataclass(frozen=True)
class Move:
    """From where to where one service's database goes."""

    database: ServiceDatabase
    source: str
    target: str


@dataclass(frozen=True)
class Moved:
    """What was moved; `was_there` says that an earlier try had done it already."""

    move: Move
    tables: Mapping[str, RowFacts]
    was_there: bool = False


def service_at(url: str) -> ServiceDatabase:
    """Return whose database is at `url`, by its tables; raises `OtherSchemaError`."""
    names = table_names(url)
    for database in DATABASES.values():
        if {table.name for table in database.tables} <= names:
            return database
    raise OtherSchemaError(
        f"{shown(url)} does not hold the tables of a service of this version.",
        details=["If it is older: start the service of this version once, which brings it up to date."],
    )


def move_all(planned: Sequence[Move], *, step: Step) -> Iterator[Moved]:
    """Move one after another; raises `OperationError` at the first that cannot be moved. Sources are never changed.

    All are looked at before the first is copied. What is there already, row for row, is not copied again.
    """
    for each in planned:
        if make_url(each.source) == make_url(each.target):
            raise OperationError(f"{shown(each.source)} cannot be moved to itself.")
        refuse_used(each.database.service, each.source)
        refuse_used(each.database.service, each.target)
    for each in planned:
        yield _move(each, step)


def _move(planned: Move, step: Step) -> Moved:
    with changes_seen(planned.source) as is_changed, snapshot_of(planned.database, planned.source) as source:

        def refuse_changed() -> None:
            if source.connection.dialect.name == "postgresql":
                refuse_others(planned.database.service, source.connection)
            if is_changed():
                raise InUseError(
                    f"{shown(planned.source)} was written to while it was copied; nothing was kept.",
                    details=[f"Stop {planned.database.service} and begin again."],
                )

        try:
            tables = _copy(planned, source, step, before_commit=refuse_changed)
        except LeftOverError:
            raise
        except NotEmptyError as refused:
            return Moved(planned, _found_equal(planned, source, step, refused), was_there=True)
    return Moved(planned, tables)


def _copy(
    planned: Move, source: Snapshot, step: Step, *, before_commit: Callable[[], None]
) -> dict[str, RowFacts]:
    service, revision = planned.database.service, planned.database.revision
    with staged(planned.database, planned.target, revision=revision) as target:
        tables = {}
        for table in planned.database.tables:
            lines = _showing(source.lines(table), f"{service}: copying {table.name}", step)
            tables[table.name] = target.load(table.name, codec_of(table).kinds, lines)
        target.verify(seen=lambda rows: step(f"{service}: reading back", rows))
        before_commit()
        target.commit()
    return tables


def _found_equal(
    planned: Move, source: Snapshot, step: Step, refused: NotEmptyError
) -> Mapping[str, RowFacts]:
    """Return what the target holds if that is what the source holds; raises `refused` otherwise."""
    what = f"{planned.database.service}: comparing"
    try:
        with snapshot_of(planned.database, planned.target) as target:
            there = target.facts(seen=lambda rows: step(what, rows))
    except OtherSchemaError:
        raise refused from None
    if differences(source.facts(seen=lambda rows: step(what, rows)), there):
        raise refused
    return there


def _showing(lines: Iterable[bytes], what: str, step: Step) -> Iterator[bytes]:
    number = 0
    for number, line in enumerate(lines, start=1):
        if number % ROWS_A_STEP == 0:
            step(what, ROWS_A_STEP)
        yield line
    step(what, number % ROWS_A_STEP)
