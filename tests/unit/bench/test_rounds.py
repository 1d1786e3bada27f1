from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from bench import report
from bench.comparisons import comparisons, losses
from bench.figures import Figure
from bench.machine import Cores
from bench.rounds import Measured, Rounds
from bench.wrk import WrkRun


def measured(
    target: str, rate: int, *, connections: int = 32, saved: int | None = None, refused: int = 0
) -> Measured:
    run = WrkRun("b0001", 1.0, rate, refused, 0, 1.0, 2.0, 3.0, 0.1)
    return Measured(
        target=target,
        connections=connections,
        run=run,
        cpu_us={"ai_service": 80.0, "wrk": 10.0},
        cores_used={"ai_service": 0.8, "wrk": 0.1},
        mean_batch=None if saved is None else 8.0,
        saved=saved,
        flagged=None if saved is None else saved * 3 // 100,
        drained_s=0.5,
    )


def rounds_of(*runs: Measured) -> Rounds:
    rounds = Rounds(Path(), Cores(0, 1), say=lambda _text: None)
    rounds.found.extend(runs)
    return rounds


def by_name(figures: list[Figure]) -> dict[str, Figure]:
    return {figure.name: figure for figure in figures}


class TestComparisons:
    def test_ratios_are_made_round_by_round(self) -> None:
        rounds = rounds_of(
            measured("echo", 1000), measured("LEAN", 600), measured("echo", 500), measured("LEAN", 350)
        )

        found = by_name(list(comparisons(rounds, default_features=45, summaries={})))["LEAN_c32_vs_echo"]

        assert (found.low, found.high) == (0.6, 0.7)
        assert found.value == pytest.approx(0.65)
        assert found.baseline == 750
        assert found.holds is True

    def test_full_is_asked_for_its_share_once_there_are_enough_features(self) -> None:
        rounds = rounds_of(measured("echo", 1000), measured("FULL", 300))

        early = by_name(list(comparisons(rounds, default_features=45, summaries={})))["FULL_c32_vs_echo"]
        late = by_name(list(comparisons(rounds, default_features=120, summaries={})))["FULL_c32_vs_echo"]

        assert early.holds is None
        assert late.holds is False

    def test_the_usual_way_is_compared_at_32_connections(self) -> None:
        rounds = rounds_of(
            measured("LEAN", 6000), measured("NAIVE_shared_client", 90), measured("NAIVE_client_per_call", 16)
        )

        found = by_name(list(comparisons(rounds, default_features=45, summaries={})))

        assert found["LEAN_c32_vs_NAIVE_shared_client"].holds is True
        assert found["LEAN_c32_vs_NAIVE_client_per_call"].holds is False

    def test_on_servers_another_share_of_the_echo_is_asked(self) -> None:
        rounds = rounds_of(measured("echo", 1000), measured("LEAN_servers", 410))

        found = by_name(list(comparisons(rounds, default_features=45, summaries={})))

        assert found["LEAN_servers_c32_vs_echo"].holds is True

    def test_two_workers_are_compared_with_one_and_nothing_is_asked_of_them(self) -> None:
        rounds = rounds_of(measured("LEAN_servers", 1000), measured("LEAN_servers_2_workers", 900))

        found = by_name(list(comparisons(rounds, default_features=45, summaries={})))

        ratio = found["LEAN_servers_2_workers_c32_vs_LEAN_servers"]
        assert ratio.value == pytest.approx(0.9)
        assert ratio.holds is None
        assert "two cores" in ratio.note

    def test_without_a_yardstick_there_is_no_ratio(self) -> None:
        rounds, summaries = rounds_of(measured("LEAN", 6000)), {"LEAN": "25 features"}

        found = by_name(list(comparisons(rounds, default_features=45, summaries=summaries)))

        assert found.keys() == {"LEAN_c32"}
        assert found["LEAN_c32"].note == "25 features"


class TestLosses:
    def test_fewer_rows_than_acknowledgements_is_a_loss(self) -> None:
        rounds = rounds_of(
            measured("LEAN", 600, saved=640), measured("LEAN", 600, saved=598), measured("echo", 900)
        )

        found = by_name(list(losses(rounds)))

        assert found.keys() == {"LEAN_lost"}
        assert found["LEAN_lost"].value == 2
        assert found["LEAN_lost"].holds is False


class TestReport:
    def test_rounds_are_merged_and_what_was_refused_is_shown(self) -> None:
        merged = report.merge(
            [
                measured("LEAN", 600, saved=640),
                measured("LEAN", 800, saved=800, refused=7),
                measured("echo", 900),
            ]
        )
        console = Console(width=200, file=StringIO(), record=True)

        report.show_rounds(console, merged)

        lean = merged[0]
        assert (lean.rate, lean.low, lean.high, lean.acknowledged, lean.refused) == (700, 600, 800, 1400, 7)
        shown = console.export_text()
        assert "(+7 others)" in shown
        assert "ai 80" in shown

    def test_a_figure_that_misses_says_so(self) -> None:
        figures = list(
            comparisons(
                rounds_of(measured("echo", 1000), measured("LEAN", 100)), default_features=45, summaries={}
            )
        )
        console = Console(width=200, file=StringIO(), record=True)

        report.show_figures(console, figures)

        assert "misses" in console.export_text()
