from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Executable,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    and_,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.orm import DeclarativeBase, Mapped, aliased, mapped_column

from common.bulk import BulkDelete, BulkInsert, PreparedStatement
from common.db import Database, writing_engine
from common.tenancy import (
    TenantSession,
    UnscopedStatementError,
    belongs_through,
    is_of_tenants,
    of_every_tenant,
    of_tenant,
)

metadata = MetaData()
folders = Table(
    "folders",
    metadata,
    Column("folder_id", String, primary_key=True),
    Column("institution_id", String, nullable=False),
)
papers = Table(
    "papers",
    metadata,
    Column("paper_id", String, primary_key=True),
    Column("institution_id", String, nullable=False),
    Column("folder_id", String, ForeignKey("folders.folder_id")),
    Column("number", Integer, nullable=False, default=0),
)
notes = Table(
    "notes",
    metadata,
    Column("note_id", String, primary_key=True),
    Column("paper_id", String, ForeignKey("papers.paper_id")),
    info=belongs_through("paper_id", to="papers.paper_id"),
)
remarks = Table(
    "remarks",
    metadata,
    Column("remark_id", String, primary_key=True),
    Column("note_id", String, ForeignKey("notes.note_id")),
    info=belongs_through("note_id", to="notes.note_id"),
)
counters = Table("counters", metadata, Column("name", String, primary_key=True))
other_paper = papers.alias()


class Base(DeclarativeBase):
    metadata = metadata


class PaperRow(Base):
    __table__ = papers

    paper_id: Mapped[str]


class ClerkRow(Base):
    __tablename__ = "clerks"

    clerk_id: Mapped[str] = mapped_column(String, primary_key=True)
    institution_id: Mapped[str] = mapped_column(String)
    name: Mapped[str] = mapped_column(String)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A guarded engine with the same rows for institutions a and b."""
    made = writing_engine(f"sqlite:///{tmp_path / 'papers.db'}")
    metadata.create_all(made)
    with made.begin() as connection:
        for each in "ab":
            connection.execute(insert(folders).values(folder_id=f"f-{each}", institution_id=each))
            connection.execute(
                insert(papers),
                [
                    {"paper_id": f"p-{each}", "institution_id": each, "folder_id": f"f-{each}"},
                    {"paper_id": f"loose-{each}", "institution_id": each, "folder_id": None},
                ],
            )
            connection.execute(insert(notes).values(note_id=f"n-{each}", paper_id=f"p-{each}"))
            connection.execute(insert(remarks).values(remark_id=f"r-{each}", note_id=f"n-{each}"))
            connection.execute(insert(ClerkRow).values(clerk_id=f"c-{each}", institution_id=each, name=""))
    yield made
    made.dispose()


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    with engine.begin() as opened:
        yield opened


UNSCOPED: dict[str, Executable] = {
    "a select": select(papers.c.paper_id),
    "a condition of another column": select(papers.c.paper_id).where(papers.c.number == 1),
    "a condition written by hand": select(papers.c.paper_id).where(papers.c.institution_id == "a"),
    "a count": select(func.count()).select_from(papers),
    "an update": update(papers).values(number=1),
    "a delete": delete(papers),
    "an update that takes values from another table": of_tenant("a", update(papers)).values(
        number=select(func.count()).select_from(notes).scalar_subquery()
    ),
    "a table that belongs through another": select(notes),
    "a table that belongs through two others": update(remarks).values(note_id="n-a"),
    "a join of which one side is scoped": of_tenant("a", select(papers)).join(notes),
    "an outer join of which one side is scoped": of_tenant("a", select(papers)).outerjoin(folders),
    "another alias of a table that is scoped": of_tenant("a", select(papers.c.paper_id)).where(
        other_paper.c.number == papers.c.number
    ),
    "one of two aliases": of_tenant("a", select(papers.alias("one").c.paper_id)).join(
        other_paper, other_paper.c.number >= 0
    ),
    "a subquery": of_tenant("a", select(papers)).where(papers.c.folder_id.in_(select(folders.c.folder_id))),
    "a subquery to select from": select(select(papers.c.paper_id).subquery()),
    "a common table expression": select(select(papers.c.paper_id).cte("all_papers")),
    "a scalar subquery in a column": select(select(func.count()).select_from(papers).scalar_subquery()),
    "an exists": of_tenant("a", select(papers)).where(select(notes).exists()),
    "one half of a union": of_tenant("a", select(papers.c.paper_id)).union(select(papers.c.paper_id)),
    "a condition in an OR": select(papers).where(
        or_(of_tenant("a", select(papers)).whereclause, papers.c.number == 0)  # type: ignore[arg-type]
    ),
    "a condition that is negated": select(papers).where(~of_tenant("a", select(papers)).whereclause),  # type: ignore[operator]
    "an insert from a select": insert(papers).from_select(
        ["paper_id", "institution_id"], select(papers.c.paper_id, papers.c.institution_id)
    ),
    "an insert that takes over another's row": sqlite.insert(papers)
    .values(paper_id="p-a", institution_id="b", number=1)
    .on_conflict_do_update(index_elements=["paper_id"], set_={"number": 1}),
    "objects": select(PaperRow),
    "an alias of objects": select(aliased(PaperRow)),
    "an update of objects": update(PaperRow).values(number=1),
    "a reason inside": select(of_every_tenant(select(papers.c.paper_id), "inside").subquery()),
}
SCOPED: dict[str, Callable[[str], Any]] = {
    "a select": lambda a: of_tenant(a, select(papers.c.paper_id)),
    "conditions added later": lambda a: of_tenant(a, select(papers.c.paper_id)).where(
        or_(papers.c.number == 0, papers.c.number == 1)
    ),
    "conditions in a group": lambda a: of_tenant(
        a, select(papers.c.paper_id).where(and_(papers.c.number == 0, papers.c.paper_id != ""))
    ),
    "a join": lambda a: of_tenant(a, select(papers.c.paper_id, folders.c.folder_id).join(folders)),
    "an outer join": lambda a: of_tenant(
        a, select(papers.c.paper_id, folders.c.folder_id).outerjoin(folders)
    ),
    "an alias": lambda a: of_tenant(a, select(papers.alias().c.paper_id)),
    "two aliases": lambda a: of_tenant(
        a, select(papers.c.paper_id, other_paper.c.paper_id).where(other_paper.c.number == papers.c.number)
    ),
    "a table that belongs through another": lambda a: of_tenant(a, select(notes.c.note_id)),
    "a table that belongs through two others": lambda a: of_tenant(a, select(remarks.c.remark_id)),
    "a subquery": lambda a: of_tenant(
        a,
        select(papers.c.paper_id).where(papers.c.folder_id.in_(of_tenant(a, select(folders.c.folder_id)))),
    ),
    "a common table expression": lambda a: select(of_tenant(a, select(papers.c.paper_id)).cte("mine")),
    "a union": lambda a: of_tenant(a, select(papers.c.paper_id)).union(of_tenant(a, select(notes.c.note_id))),
    "objects": lambda a: of_tenant(a, select(PaperRow.paper_id)),
    "an alias of objects": lambda a: of_tenant(a, select(aliased(PaperRow).paper_id)),
}


class TestUnscoped:
    @pytest.mark.parametrize("statement", UNSCOPED.values(), ids=UNSCOPED.keys())
    def test_is_refused_and_says_what_to_do(self, connection: Connection, statement: Executable) -> None:
        with pytest.raises(UnscopedStatementError, match=r"of_tenant\(institution_id, statement\)"):
            connection.execute(statement)

    def test_nothing_is_run(self, engine: Engine, connection: Connection) -> None:
        with pytest.raises(UnscopedStatementError, match="papers"):
            connection.execute(delete(papers))

        everything = of_every_tenant(select(func.count()).select_from(papers), "the test")
        assert connection.scalar(everything) == 4

    def test_is_refused_also_after_one_like_it_was_allowed_for_a_reason(self, connection: Connection) -> None:
        connection.execute(of_every_tenant(select(papers.c.paper_id), "the test"))

        with pytest.raises(UnscopedStatementError):
            connection.execute(select(papers.c.paper_id))

    async def test_is_refused_in_sessions_too(self, engine: Engine) -> None:
        database = Database(str(engine.url))
        async with database.sessions() as session:
            with pytest.raises(UnscopedStatementError, match="clerks"):
                await session.get(ClerkRow, "c-a")
        await database.engine.dispose()


class TestOfTenant:
    @pytest.mark.parametrize("make", SCOPED.values(), ids=SCOPED.keys())
    def test_finds_what_is_theirs_and_nothing_else(
        self, connection: Connection, make: Callable[[str], Any]
    ) -> None:
        found = {each: connection.execute(make(each)).all() for each in ("a", "b", "nobody")}

        for each, rows in found.items():
            values = {value for row in rows for value in row if value is not None}
            assert all(str(value).endswith(f"-{each}") for value in values), each
        assert len(found["a"]) == len(found["b"]) > 0
        assert found["nobody"] == []

    def test_keeps_rows_without_a_partner_in_an_outer_join(self, connection: Connection) -> None:
        query = select(papers.c.paper_id, folders.c.folder_id).outerjoin(folders).order_by(papers.c.paper_id)

        assert connection.execute(of_tenant("a", query)).all() == [("loose-a", None), ("p-a", "f-a")]

    def test_does_not_follow_a_row_that_points_at_another_institution(self, connection: Connection) -> None:
        connection.execute(of_tenant("a", update(papers).values(folder_id="f-b")))
        query = select(papers.c.paper_id, folders.c.folder_id).outerjoin(folders)

        assert connection.execute(of_tenant("a", query)).all() == []

    @pytest.mark.parametrize("statement", [update(remarks).values(note_id=None), delete(remarks)])
    def test_changes_only_what_is_theirs(self, connection: Connection, statement: Any) -> None:  # noqa: ANN401
        assert connection.execute(of_tenant("a", statement)).rowcount == 1

        left = of_every_tenant(select(remarks.c.remark_id).where(remarks.c.note_id.is_not(None)), "the test")
        assert connection.scalars(left).all() == ["r-b"]

    def test_tables_of_nobody_need_nothing(self, connection: Connection) -> None:
        connection.execute(insert(counters).values(name="x"))

        assert connection.scalars(select(counters.c.name)).all() == ["x"]
        assert [table.name for table in metadata.tables.values() if not is_of_tenants(table)] == ["counters"]

    def test_an_upsert_by_institution_is_taken(self, connection: Connection) -> None:
        keyed = Table(
            "totals", MetaData(), Column("institution_id", String, primary_key=True), Column("n", Integer)
        )
        keyed.create(connection)
        upsert = sqlite.insert(keyed).values(institution_id="a", n=1)

        connection.execute(upsert.on_conflict_do_update(index_elements=["institution_id"], set_={"n": 2}))
        connection.execute(
            upsert.on_conflict_do_update(index_elements=[keyed.c.institution_id], set_={"n": 2})
        )

        assert connection.scalar(of_tenant("a", select(keyed.c.n))) == 2


class TestSessions:
    def test_write_objects_that_a_scoped_statement_loaded(self, engine: Engine) -> None:
        with TenantSession(engine) as session, session.begin():
            clerk = session.scalars(of_tenant("a", select(ClerkRow))).one()
            clerk.name = "Ada"
            session.add(ClerkRow(clerk_id="c-new", institution_id="a", name="Bo"))

        with TenantSession(engine) as session:
            names = session.scalars(of_tenant("a", select(ClerkRow.name).order_by(ClerkRow.name))).all()
        assert names == ["Ada", "Bo"]

    def test_refuse_to_give_an_object_to_another_institution(self, engine: Engine) -> None:
        with TenantSession(engine) as session:
            clerk = session.scalars(of_tenant("a", select(ClerkRow))).one()
            clerk.institution_id = "b"

            with pytest.raises(UnscopedStatementError, match="ClerkRow"):
                session.commit()

    def test_refuse_an_unscoped_change_after_they_wrote_objects(self, engine: Engine) -> None:
        with TenantSession(engine) as session:
            session.add(ClerkRow(clerk_id="c-new", institution_id="a", name="Bo"))
            session.flush()

            with pytest.raises(UnscopedStatementError):
                session.execute(update(ClerkRow).values(name="all"))

    def test_refuse_it_after_writing_objects_failed(self, engine: Engine) -> None:
        with TenantSession(engine) as session:
            session.add(ClerkRow(clerk_id="c-a", institution_id="a", name="again"))
            with pytest.raises(Exception, match="UNIQUE"):
                session.flush()
            session.rollback()

            with pytest.raises(UnscopedStatementError):
                session.execute(delete(ClerkRow))


class TestPreparedStatements:
    def test_are_checked_when_they_are_made(self, connection: Connection) -> None:
        statement = PreparedStatement(lambda _dialect, _size: select(papers.c.paper_id))

        with pytest.raises(UnscopedStatementError, match="papers"):
            statement.run(connection, ())

    def test_that_delete_from_a_table_of_tenants_are_refused(self, connection: Connection) -> None:
        with pytest.raises(UnscopedStatementError, match="papers"):
            BulkDelete(papers, fixed="institution_id", one_of="paper_id").warm_up(connection)

    def test_may_have_a_reason(self, connection: Connection) -> None:
        statement = PreparedStatement(
            lambda _dialect, _size: of_every_tenant(select(func.count()).select_from(papers), "the test")
        )

        assert statement.run(connection, ()).fetchone() == (4,)

    def test_may_insert(self, connection: Connection) -> None:
        assert BulkInsert(folders).run(connection, [("f-1", "a"), ("f-2", "b")]) == 2
