"""docs/errors.md names every problem a caller can meet, with its status."""

import importlib
import pkgutil
import re
from collections import Counter
from pathlib import Path

import ai_service
import alert_service
import common
import external_apis_services
import log_service
import user_service
from common.errors import PROBLEM_TYPE, PlatformError

DOCUMENT = Path(__file__).parents[2] / "docs" / "errors.md"
ROW = re.compile(r"^\| `([a-z0-9-]+)` \| (\d{3}(?:, \d{3})*) \|", re.MULTILINE)
# made at the boundary rather than by a class of its own
WITHOUT_CLASS = {("internal", 500)}
HTTP = {
    ("bad-request", 400),
    ("method-not-allowed", 405),
    ("unsupported-media-type", 415),
    ("http-error", 400),
}


def every_problem() -> set[tuple[str, int]]:
    for package in (
        common,
        ai_service,
        user_service,
        alert_service,
        log_service,
        external_apis_services,
    ):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if "migrations" not in module.name and not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    ours = (error for error in subclasses(PlatformError) if not error.__module__.startswith("tests."))
    return {(error.type, error.status_code) for error in ours}


def subclasses(parent: type[PlatformError]) -> set[type[PlatformError]]:
    return {parent}.union(*(subclasses(child) for child in parent.__subclasses__()))


class TestErrorsDocument:
    def test_names_every_problem_with_its_status_and_no_other(self) -> None:
        documented = {
            (type_, int(status))
            for type_, statuses in ROW.findall(DOCUMENT.read_text())
            for status in statuses.split(", ")
        }

        assert documented == every_problem() | WITHOUT_CLASS | HTTP

    def test_names_no_problem_twice(self) -> None:
        named = Counter(type_ for type_, _ in ROW.findall(DOCUMENT.read_text()))

        assert [type_ for type_, times in named.items() if times > 1] == []

    def test_says_how_a_type_is_written_on_the_wire(self) -> None:
        assert PROBLEM_TYPE in DOCUMENT.read_text()
