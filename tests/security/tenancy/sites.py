"""Where the product's code says whose a statement is: every call of `of_tenant` and `of_every_tenant`."""

import ast
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

from common.tenancy import of_every_tenant, of_tenant

PROJECT = Path(__file__).resolve().parents[3]
PRODUCT = ("common", "ai_service", "user_service", "alert_service", "log_service", "external_apis_services")


@dataclass(frozen=True)
class Site:
    """One call, named by its function and how many come before it there."""

    module: str
    function: str
    number: int
    lines: range
    reason: str | None

    def __str__(self) -> str:
        return f"{self.module}.{self.function}" + (f"#{self.number}" if self.number else "")

    @property
    def service(self) -> str:
        return self.module.partition(".")[0]


def calls_of(name: str) -> list[Site]:
    """Return every call of `name` in the product."""
    return [site for path, tree in product_trees() for site in _calls(_module(path), tree, name)]


def product_trees() -> Iterator[tuple[Path, ast.Module]]:
    """Yield every file of the product, parsed; migrations change the rows of all by their nature."""
    for package in PRODUCT:
        for path in sorted((PROJECT / package).rglob("*.py")):
            if "migrations" not in path.parts:
                yield path.relative_to(PROJECT), ast.parse(path.read_text())


@contextmanager
def neutralised(site: Site) -> Iterator[None]:
    """Take the condition away that one call of `of_tenant` adds; all others stay."""

    def without_condition(_institution_id: str, statement: Any) -> Any:  # noqa: ANN401 - a statement
        return of_every_tenant(statement, "the condition is taken away by a test")

    with replaced(site, without_condition):
        yield


@contextmanager
def replaced(site: Site, instead: Callable[[str, Any], Any]) -> Iterator[None]:
    """Let one call of `of_tenant` return what `instead` does; all others stay."""
    module: ModuleType = importlib.import_module(site.module)

    def chosen(institution_id: str, statement: Any) -> Any:  # noqa: ANN401 - a statement
        return (instead if sys._getframe(1).f_lineno in site.lines else of_tenant)(institution_id, statement)

    with patch.object(module, "of_tenant", chosen):
        yield


def _module(path: Path) -> str:
    return ".".join(path.with_suffix("").parts)


def _calls(module: str, tree: ast.Module, name: str) -> Iterator[Site]:
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for function in _functions(tree):
        calls = [node for node in ast.walk(function) if isinstance(node, ast.Call) and _called(node) == name]
        found = sorted(calls, key=lambda call: (call.lineno, call.col_offset))
        for number, call in enumerate(found):
            lines = range(call.lineno, (call.end_lineno or call.lineno) + 1)
            yield Site(module, function.name, number, lines, _reason(call, constants))


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _called(call: ast.Call) -> str | None:
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else None


def _reason(call: ast.Call, constants: dict[str, Any]) -> str | None:
    """Return the second argument of `of_every_tenant`: a literal, or a constant of the module."""
    if len(call.args) < 2:
        return None
    second = call.args[1]
    if isinstance(second, ast.Name):
        return constants.get(second.id)
    return str(second.value) if isinstance(second, ast.Constant) else None
