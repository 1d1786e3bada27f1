"""SQL is made from the tables, never put together from strings; `make check` runs this over the whole product.

What is refused: text that is put together (an f-string, +, %, format, join) where SQL goes, and anything but a
literal where SQLAlchemy takes SQL as it is.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).parents[1]
PRODUCT = (
    "common",
    "ai_service",
    "user_service",
    "alert_service",
    "log_service",
    "external_apis_services",
    "local_stack",
    "assay",
    "bench",
)
RUNNING = frozenset(
    {
        "execute",
        "executemany",
        "executescript",
        "scalar",
        "scalars",
        "stream",
        "fetch",
        "fetchrow",
        "fetchval",
    }
)
LITERAL_ONLY = frozenset({"exec_driver_sql", "text", "literal_column", "DDL"})
MODULES = frozenset({"sa", "sqlalchemy"})
EXCEPTIONS: dict[str, str] = {
    "common/row_security.py": "the condition of a policy names columns of our own tables: it stands in no SELECT",
}
"""Files in which text may come from elsewhere, and why it holds nothing from outside."""


def breaches(path: str, source: str) -> Iterator[str]:
    """Yield each place of a file where SQL is not a literal and not made from the tables."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and node.args:
            problem = _problem(node)
            if problem:
                yield f"{path}:{node.lineno}: {problem}"


def _problem(call: ast.Call) -> str | None:
    name, given = _called(call.func), call.args[0]
    if name in LITERAL_ONLY and not _is_literal(given):
        return f"{name}() takes a literal alone: make the statement from the tables"
    if name in RUNNING and _is_put_together(given):
        return f"{name}() of SQL that is put together: make the statement from the tables"
    return None


def _called(function: ast.expr) -> str | None:
    """Return the name of what is called, where it may take SQL: `text` is also a method of other things."""
    if isinstance(function, ast.Name):
        return function.id if function.id in LITERAL_ONLY else None
    if not isinstance(function, ast.Attribute):
        return None
    if function.attr in LITERAL_ONLY - {"exec_driver_sql"}:
        is_sqlalchemy = isinstance(function.value, ast.Name) and function.value.id in MODULES
        return function.attr if is_sqlalchemy else None
    return function.attr


def _is_literal(given: ast.expr) -> bool:
    return isinstance(given, ast.Constant) and isinstance(given.value, str)


def _is_put_together(given: ast.expr) -> bool:
    if isinstance(given, ast.BinOp):
        return isinstance(given.op, ast.Add | ast.Mod)
    if isinstance(given, ast.Call) and isinstance(given.func, ast.Attribute):
        return given.func.attr in {"format", "join"} and not _is_composed(given.func.value)
    return isinstance(given, ast.JoinedStr)


def _is_composed(base: ast.expr) -> bool:
    """Whether `base` is psycopg's SQL("..."): its parts are identifiers and literals that it quotes."""
    return (
        isinstance(base, ast.Call)
        and isinstance(base.func, ast.Attribute)
        and base.func.attr == "SQL"
        and len(base.args) == 1
        and _is_literal(base.args[0])
    )


def product_breaches() -> Iterator[str]:
    """Yield the breaches of all product folders, migrations included."""
    for package in PRODUCT:
        for path in sorted((PROJECT / package).rglob("*.py")):
            name = str(path.relative_to(PROJECT))
            if name not in EXCEPTIONS:
                yield from breaches(name, path.read_text())


def main() -> None:
    """Print what puts SQL together and end with 1, or end quietly."""
    found = list(product_breaches())
    if found:
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
