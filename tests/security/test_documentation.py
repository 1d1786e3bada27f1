"""docs/security.md says nothing about tests that is not so."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.security.attacks import REQUESTS, TOKENS

PROJECT = Path(__file__).parents[2]
PAGE = PROJECT / "docs" / "security.md"
NAMED = re.compile(r"(tests/[\w/]+\.py)((?:::\w+)*)")
RANGE = re.compile(r"\d+(?:-\d+)?")
STATE = re.compile(r"met|partly: |not yet \(step \d+\)|not applicable")
WITHOUT_TEST = re.compile(r"not yet|not applicable|met: (this page|the table above)")
# how many sections each chapter of ASVS 5.0 has
CHAPTERS = {
    "V1 Encoding and Sanitization": 5,
    "V2 Validation and Business Logic": 4,
    "V3 Web Frontend Security": 7,
    "V4 API and Web Service": 4,
    "V5 File Handling": 4,
    "V6 Authentication": 8,
    "V7 Session Management": 6,
    "V8 Authorization": 4,
    "V9 Self-contained Tokens": 2,
    "V10 OAuth and OIDC": 7,
    "V11 Cryptography": 7,
    "V12 Secure Communication": 3,
    "V13 Configuration": 4,
    "V14 Data Protection": 3,
    "V15 Secure Coding and Architecture": 4,
    "V16 Security Logging and Error Handling": 5,
    "V17 WebRTC": 3,
}


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the tables below a heading, without their heads."""
    text = PAGE.read_text().split(f"\n{heading}\n", 1)[1]
    text = re.split(r"\n#+ ", text, maxsplit=1)[0]
    lines = [line for line in text.splitlines() if line.startswith("| ") and line[2].isdigit()]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def numbers(cells: str) -> set[int]:
    """Return the numbers in `1-4, 83`."""
    bounds = [part.split("-") for part in RANGE.findall(cells)]
    return {number for pair in bounds for number in range(int(pair[0]), int(pair[-1]) + 1)}


@cache
def names_in(path: str) -> frozenset[str]:
    """Return the tests of a file: functions, classes, and `Class::method`."""
    found = set()
    for node in ast.parse((PROJECT / path).read_text()).body:
        if isinstance(node, ast.ClassDef):
            found |= {
                node.name,
                *(f"{node.name}::{each.name}" for each in node.body if hasattr(each, "name")),
            }
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
    return frozenset(found)


class TestSecurityPage:
    def test_names_only_tests_that_exist(self) -> None:
        named = NAMED.findall(PAGE.read_text())
        missing = [
            path + name
            for path, name in named
            if not (PROJECT / path).exists() or (name and name.removeprefix("::") not in names_in(path))
        ]

        assert len(named) > 80
        assert missing == []

    @pytest.mark.parametrize(("chapter", "sections"), CHAPTERS.items())
    def test_has_a_row_for_every_section_of_asvs(self, chapter: str, sections: int) -> None:
        number = chapter.split(" ", maxsplit=1)[0].removeprefix("V")

        found = [row[0].split(" ")[0] for row in rows(f"### {chapter}")]

        assert found == [f"{number}.{section}" for section in range(1, sections + 1)]

    @pytest.mark.parametrize("chapter", CHAPTERS)
    def test_gives_a_test_or_a_reason_for_every_section(self, chapter: str) -> None:
        unexplained = [
            name
            for name, state, tests in rows(f"### {chapter}")
            if not STATE.match(state) or not (tests or WITHOUT_TEST.match(state))
        ]

        assert unexplained == []

    def test_lists_every_attack(self) -> None:
        listed = [numbers(row[0]) for row in rows("## Attacks with tokens")]

        tried = {attack.number for attack in TOKENS} | {attack.number for attack in REQUESTS}
        assert set().union(*listed) == {*range(1, 91)}
        assert tried == {*range(1, 73), *range(82, 87)}
