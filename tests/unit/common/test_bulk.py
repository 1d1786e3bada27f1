from collections.abc import Iterator

import pytest
from sqlalchemy import (
    Column,
    Connection,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    func,
    make_url,
    select,
)
from sqlalchemy.exc import IntegrityError, OperationalError

from common.bulk import SIZES, BulkDelete, BulkInsert, BulkSelect

metadata = MetaData()
things = Table(
    "things",
    metadata,
    Column("kind", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("weight", Integer),
)


@pytest.fixture
def connection() -> Iterator[Connection]:
    engine = create_engine("sqlite://", hide_parameters=True)
    metadata.create_all(engine)
    with engine.begin() as opened:
        yield opened
    engine.dispose()


def rows(count: int, *, kind: str = "a") -> list[tuple[str, str, int | None]]:
    return [(kind, f"thing-{number:04d}", number) for number in range(count)]


def count(connection: Connection) -> int:
    return connection.scalar(select(func.count()).select_from(things)) or 0


class TestBulkInsert:
    @pytest.mark.parametrize("size", [0, 1, 5, 31, 127, 128, 129, 300])
    def test_inserts_every_row_whatever_the_size_of_the_batch(
        self, connection: Connection, size: int
    ) -> None:
        inserted = BulkInsert(things).run(connection, rows(size))

        assert inserted == size
        assert [tuple(row) for row in connection.execute(select(things).order_by(things.c.name))] == rows(
            size
        )

    def test_leaves_repeats_as_they_are_and_says_how_many_were_new(self, connection: Connection) -> None:
        insert = BulkInsert(things, ignore_repeats=True)
        insert.run(connection, [("a", "thing-0001", 77)])

        inserted = insert.run(connection, rows(3))

        assert inserted == 2
        assert connection.scalar(select(things.c.weight).where(things.c.name == "thing-0001")) == 77

    def test_repeats_within_one_batch_count_once(self, connection: Connection) -> None:
        assert BulkInsert(things, ignore_repeats=True).run(connection, rows(2) * 2) == 2

    def test_returns_a_column_of_what_was_new_and_leaves_others_to_the_database(
        self, connection: Connection
    ) -> None:
        insert = BulkInsert(things, columns=["kind", "name"], ignore_repeats=True, returning="name")
        insert.run(connection, [("a", "thing-0001")])

        new = insert.new(connection, [("a", f"thing-{number:04d}") for number in range(200)])

        assert sorted(new) == [f"thing-{number:04d}" for number in range(200) if number != 1]
        assert set(connection.scalars(select(things.c.weight))) == {None}

    def test_a_repeat_is_the_error_sqlalchemy_would_raise_and_says_no_value(
        self, connection: Connection
    ) -> None:
        insert = BulkInsert(things)
        insert.run(connection, [("a", "canary", None)])

        with pytest.raises(IntegrityError) as raised:
            insert.run(connection, [("a", "canary", None)])

        assert "canary" not in str(raised.value)

    def test_a_failing_database_is_the_error_sqlalchemy_would_raise(self, connection: Connection) -> None:
        metadata.drop_all(connection)

        with pytest.raises(OperationalError):
            BulkInsert(things).run(connection, rows(1))

    def test_makes_each_text_once(self, connection: Connection) -> None:
        made: list[int] = []
        insert = BulkInsert(things)
        make = insert._statement._make

        def counting(dialect: object, size: int) -> object:
            made.append(size)
            return make(dialect, size)  # type: ignore[arg-type]

        insert._statement._make = counting  # type: ignore[assignment]
        insert.warm_up(connection)
        insert.run(connection, rows(200))

        assert sorted(made) == sorted(SIZES)

    def test_takes_columns_in_the_order_of_the_table_alone(self) -> None:
        for columns in (["name", "kind"], ["kind", "nmae"]):
            with pytest.raises(ValueError, match="in its order"):
                BulkInsert(things, columns=columns)


class TestBulkSelect:
    def test_a_database_that_fails_at_a_later_row_is_the_error_sqlalchemy_would_raise(
        self, connection: Connection
    ) -> None:
        def fail_late(weight: int) -> int:
            if weight:
                raise OSError("canary")
            return weight

        BulkInsert(things).run(connection, rows(3))
        connection.connection.create_function("fail_late", 1, fail_late)
        found = BulkSelect(
            lambda names: select(func.fail_late(things.c.weight)).where(things.c.name.in_(names))
        )

        with pytest.raises(OperationalError):
            found.run(connection, [name for _, name, _ in rows(3)])

    @pytest.mark.parametrize("size", [0, 1, 5, 129, 300])
    def test_finds_every_row_whatever_the_number_of_values(self, connection: Connection, size: int) -> None:
        BulkInsert(things).run(connection, rows(400))
        found = BulkSelect(lambda names: select(things).where(things.c.name.in_(names)))

        assert sorted(found.run(connection, [name for _, name, _ in rows(size)])) == rows(size)


class TestBulkDelete:
    def test_deletes_the_named_rows_of_one_kind(self, connection: Connection) -> None:
        insert = BulkInsert(things)
        insert.run(connection, rows(10) + rows(10, kind="b"))

        BulkDelete(things, fixed="kind", one_of="name").run(
            connection, "a", [f"thing-{number:04d}" for number in range(7)]
        )

        kept = [
            tuple(row)[:2]
            for row in connection.execute(select(things).order_by(things.c.kind, things.c.name))
        ]
        assert len(kept) == 13
        assert kept[:3] == [("a", "thing-0007"), ("a", "thing-0008"), ("a", "thing-0009")]

    def test_of_nothing_deletes_nothing(self, connection: Connection) -> None:
        BulkInsert(things).run(connection, rows(2))

        BulkDelete(things, fixed="kind", one_of="name").run(connection, "a", [])

        assert count(connection) == 2


class TestText:
    def test_is_made_for_postgresql_too(self) -> None:
        insert = BulkInsert(things, ignore_repeats=True)

        text = insert._statement._compiled(make_url("postgresql+psycopg://").get_dialect()(), 2)

        assert text.count("%s") == 6
        assert text.endswith("ON CONFLICT DO NOTHING")
