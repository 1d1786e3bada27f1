"""Rows of every kind of column survive the copy to either engine, bit for bit."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    Text,
    create_engine,
    insert,
    select,
)

from assay.databases import ServiceDatabase
from assay.errors import ValueRefusedError
from assay.reading import codec_of, snapshot_of
from assay.values import RowCodec
from assay.writing import staged
from tests.migrations import write_migrations

MIGRATION = """\
import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade():
    op.create_table(
        "everything",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("name", sa.String(64)),
        sa.Column("words", sa.Text),
        sa.Column("small", sa.Integer),
        sa.Column("big", sa.BigInteger),
        sa.Column("is_so", sa.Boolean),
        sa.Column("content", sa.LargeBinary),
        sa.Column("share", sa.Float(53)),
        sa.Column("facts", sa.JSON),
        sa.Column("at", sa.DateTime),
        sa.Column("moment", sa.DateTime(timezone=True)),
    )
"""
MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
metadata = MetaData()
everything = Table(
    "everything",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("name", String(64)),
    Column("words", Text),
    Column("small", Integer),
    Column("big", BigInteger),
    Column("is_so", Boolean),
    Column("content", LargeBinary),
    Column("share", Float(53)),
    Column("facts", JSON),
    Column("at", DateTime),
    Column("moment", DateTime(timezone=True)),
)
CODEC = codec_of(everything)
characters = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
texts = st.text(characters)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
moments = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1))  # noqa: DTZ001 - what has no zone is meant
rows_of_everything = st.lists(
    st.tuples(
        st.integers(-(2**63), 2**63 - 1),
        st.none() | st.text(characters, max_size=64),
        st.none() | texts,
        st.none() | st.integers(-(2**31), 2**31 - 1),
        st.none() | st.integers(-(2**63), 2**63 - 1),
        st.none() | st.booleans(),
        st.none() | st.binary() | texts.map(str.encode),
        st.none() | st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False),
        st.none() | json_values.map(json.dumps),
        st.none() | moments,
        st.none() | moments.map(lambda moment: moment.replace(tzinfo=UTC)),
    ),
    unique_by=lambda row: row[0],
    max_size=6,
)


@pytest.fixture
def database(tmp_path: Path) -> ServiceDatabase:
    return ServiceDatabase("every_kind", (metadata,), write_migrations(tmp_path / "migrations", MIGRATION))


@pytest.fixture(params=["sqlite", "postgresql"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'target' / 'x.db'}"
    else:
        yield request.getfixturevalue("postgres_url")


def _number(row: tuple[Any, ...]) -> int:
    return int(row[0])


class TestEveryKind:
    def test_comes_back_as_it_went_in(self, database: ServiceDatabase, target: str) -> None:
        with staged(database, target, revision="0001") as copy:

            @settings(deadline=None, max_examples=60)
            @given(rows=rows_of_everything)
            def comes_back(rows: list[tuple[Any, ...]]) -> None:
                copy.load("everything", CODEC.kinds, [CODEC.line(row) for row in rows])
                copy.verify()  # by digest, from the database
                found = copy.connection.execute(select(*everything.columns[:8])).all()
                expected = [row[:8] for row in rows]
                assert sorted(map(tuple, found), key=_number) == sorted(expected, key=_number)

            comes_back()

    @settings(deadline=None)
    @given(rows=rows_of_everything)
    def test_a_line_is_the_same_after_it_was_read(self, rows: list[tuple[Any, ...]]) -> None:
        lines = [CODEC.line(row) for row in rows]

        assert [CODEC.line(CODEC.row(line)) for line in lines] == lines

    def test_what_sqlalchemy_wrote_means_the_same_on_both_engines(
        self, database: ServiceDatabase, postgres_url: str, tmp_path: Path
    ) -> None:
        row = {
            "number": 1, "name": "Ä", "words": None, "small": -1, "big": 2**63 - 1, "is_so": False,
            "content": b"\x00\xff", "share": 0.1, "facts": {"b": [1, None], "a": "\u20ac"},
            "at": MOMENT.replace(tzinfo=None), "moment": MOMENT,
        }  # fmt: skip
        urls = [f"sqlite:///{tmp_path / 'x.db'}", postgres_url]
        found = []
        for url in urls:
            with staged(database, url, revision="0001") as empty:
                empty.load("everything", CODEC.kinds, [])
                empty.commit()
            engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
            with engine.begin() as connection:
                connection.execute(insert(everything), row)
            engine.dispose()
            with snapshot_of(database, url) as snapshot:
                found.append(list(snapshot.lines(everything)))

        assert found[0] == found[1]


class TestRefuses:
    def test_a_value_that_is_not_of_its_column(self) -> None:
        codec = RowCodec("t", {"number": "int", "name": "text"})

        with pytest.raises(ValueRefusedError, match=r"name \(text, found int\)"):
            codec.line((1, 2))

    def test_a_type_that_nobody_taught_it(self) -> None:
        with pytest.raises(ValueRefusedError, match="cannot be copied"):
            codec_of(Table("t", MetaData(), Column("price", Numeric)))

    @pytest.mark.parametrize("line", [b"[1]", b"[1,2,3]", b"{}", b"x", b'[1,"xAAAA"]', b'[1,"b!"]'])
    def test_a_line_that_is_no_row(self, line: bytes) -> None:
        with pytest.raises(ValueRefusedError, match="no row"):
            RowCodec("t", {"number": "int", "content": "bytes"}).row(line)
