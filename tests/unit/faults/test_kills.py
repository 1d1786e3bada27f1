"""The plan of the kill runs: it can be made again, and it knows every point that there is."""

import re
from collections import Counter
from itertools import chain
from pathlib import Path

from tests.faults.kills import AT_RANDOM, POINTS, Kill, planned_kills

KILLS = 70
PROJECT = Path(__file__).resolve().parents[3]
PASSED = re.compile(r'\bfailpoint\("([a-z_.]+)"\)')
PACKAGES = (
    "common",
    "ai_service",
    "user_service",
    "alert_service",
    "log_service",
    "external_apis_services",
)


def kills(seed: int = 1) -> list[Kill]:
    plan = planned_kills(seed=seed, count=KILLS, rounds=5)
    return list(chain.from_iterable(chain.from_iterable(plan)))


class TestPoints:
    def test_are_those_of_the_services(self) -> None:
        found = {
            point
            for package in PACKAGES
            for path in (PROJECT / package).rglob("*.py")
            for point in PASSED.findall(path.read_text())
        }

        assert found == {point for points in POINTS.values() for point in points}


class TestPlannedKills:
    def test_are_as_many_as_asked_for_with_every_point_once(self) -> None:
        named = Counter(kill.where for kill in kills() if kill.failpoint)

        assert len(kills()) == KILLS
        assert named == Counter(chain.from_iterable(POINTS.values()))

    def test_reach_every_service_in_every_round(self) -> None:
        for one_round in planned_kills(seed=1, count=KILLS, rounds=5):
            assert {chain_[0].service for chain_ in one_round} == set(POINTS)

    def test_begin_with_a_service_that_is_not_armed(self) -> None:
        for one_round in planned_kills(seed=1, count=KILLS, rounds=5):
            assert {chain_[0].where for chain_ in one_round} == {AT_RANDOM}

    def test_are_the_same_for_the_same_seed_alone(self) -> None:
        assert kills(seed=1) == kills(seed=1)
        assert kills(seed=1) != kills(seed=2)

    def test_name_the_pass_that_is_fatal(self) -> None:
        assert Kill("ai_service", "decisions.after_commit", 3).failpoint == "decisions.after_commit:kill:3"
        assert Kill("ai_service", AT_RANDOM).failpoint == ""
