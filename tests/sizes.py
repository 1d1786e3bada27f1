"""Files and functions that have grown too long: `python -m tests.sizes`.

The limits serve reading. Kernels, parsers, tables and the like may pass them and say why near the top of the file, in
a line that holds the words `over the house limit`. Tests and migrations are lists by nature and are not measured.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 40
REASON = "over the house limit"
REASON_WITHIN_LINES = 20
PROJECT = Path(__file__).resolve().parents[1]
MEASURED = (
    "common",
    "ai_service",
    "user_service",
    "alert_service",
    "log_service",
    "external_apis_services",
    "local_stack",
    "bench",
)


def breaches(name: str, source: str) -> Iterator[str]:
    """Yield a line for everything in `source` that is too long, unless the file gives its reason."""
    lines = source.splitlines()
    if any(REASON in line for line in lines[:REASON_WITHIN_LINES]):
        return
    if len(lines) > MAX_FILE_LINES:
        yield f"{name}: {len(lines)} lines, more than {MAX_FILE_LINES}"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = _length(node)
            if length > MAX_FUNCTION_LINES:
                yield f"{name}:{node.lineno}: {node.name} has {length} lines, more than {MAX_FUNCTION_LINES}"


def _length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines of a function's body, without its docstring."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return (node.end_lineno or node.lineno) - body[0].lineno + 1 if body else 0


def measured_files() -> Iterator[Path]:
    """Yield every source file that is measured."""
    for package in MEASURED:
        for path in sorted((PROJECT / package).rglob("*.py")):
            if "migrations" not in path.parts:
                yield path


def main() -> None:
    """Print what is too long and end with 1, or end quietly."""
    found = [
        breach
        for path in measured_files()
        for breach in breaches(str(path.relative_to(PROJECT)), path.read_text())
    ]
    if found:
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
