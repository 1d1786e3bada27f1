import pytest

from tests import sql_texts


class TestSqlTexts:
    @pytest.mark.parametrize(
        "line",
        [
            'connection.execute(f"SELECT {name}")',
            'connection.execute("SELECT %s" % name)',
            'connection.execute("SELECT " + name)',
            'connection.execute("SELECT {}".format(name))',
            'op.execute(", ".join(names))',
            'session.scalars(f"SELECT 1")',
            'text(f"SELECT {name}")',
            "sa.text(name)",
            'sqlalchemy.text("a" + name)',
            'literal_column(f"{name}")',
            "connection.exec_driver_sql(statement)",
            'await connection.fetch(f"SELECT {name}")',
        ],
    )
    def test_sql_that_is_put_together_is_named(self, line: str) -> None:
        source = f"async def ask() -> None:\n    {line}\n"

        (breach,) = sql_texts.breaches("repository.py", source)

        assert breach.startswith("repository.py:2: ")

    @pytest.mark.parametrize(
        "line",
        [
            'connection.execute(text("SELECT 1"))',
            "connection.execute(select(decisions).where(decisions.c.flagged))",
            'connection.exec_driver_sql("BEGIN IMMEDIATE")',
            'mail.text("plain")',
            "path.read_text()",
            "pool.execute()",
        ],
    )
    def test_literals_and_statements_made_from_tables_are_fine(self, line: str) -> None:
        assert list(sql_texts.breaches("repository.py", line)) == []

    def test_the_product_puts_none_together(self) -> None:
        assert list(sql_texts.product_breaches()) == []

    def test_every_exception_is_of_a_file_that_needs_it(self) -> None:
        for name in sql_texts.EXCEPTIONS:
            assert list(sql_texts.breaches(name, (sql_texts.PROJECT / name).read_text())), name
