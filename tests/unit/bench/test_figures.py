from pathlib import Path

import orjson
import pytest

from bench.figures import Aim, Better, Figure, append, spread

NAN = float("nan")


class TestAim:
    @pytest.mark.parametrize(
        ("better", "value", "holds"),
        [
            (Better.HIGHER, 0.55, True),
            (Better.HIGHER, 0.549, False),
            (Better.LOWER, 20.0, True),
            (Better.LOWER, 20.1, False),
            (Better.HIGHER, NAN, False),
            (Better.LOWER, NAN, False),
        ],
    )
    def test_a_target_is_met_from_its_own_side(self, better: Better, value: float, holds: bool) -> None:  # noqa: FBT001 - a parameter of the table
        aim = Aim(better, 0.55 if better is Better.HIGHER else 20.0)

        assert aim.met_by(value) is holds


class TestFigure:
    def test_a_line_says_what_was_asked_and_whether_it_holds(self) -> None:
        figure = Figure("LEAN_c32_vs_echo", 0.6, "x", 8000.0, Aim(Better.HIGHER, 0.55, 0.75))

        line = orjson.loads(figure.as_line(run="now", noisy=False))

        assert line["name"] == "LEAN_c32_vs_echo"
        assert (line["value"], line["unit"], line["baseline"]) == (0.6, "x", 8000.0)
        assert (line["target"], line["aim"], line["holds"]) == (0.55, 0.75, True)
        assert (line["run"], line["noisy"]) == ("now", False)

    def test_of_what_nothing_is_asked_nothing_holds_or_misses(self) -> None:
        line = orjson.loads(Figure("decide", 4.0, "us").as_line())

        assert line["holds"] is None
        assert line["target"] is None

    def test_rounds_are_told_by_their_median_and_their_ends(self) -> None:
        figure = spread("echo_c32", [3.0, 1.0, 2.0], "req/s")

        assert (figure.low, figure.value, figure.high) == (1.0, 2.0, 3.0)


class TestAppend:
    def test_a_second_run_keeps_the_lines_of_the_first(self, tmp_path: Path) -> None:
        path = tmp_path / "results.jsonl"

        append(path, [Figure("first", 1.0, "us")], run="a")
        append(path, [Figure("second", 2.0, "us")], run="b")

        lines = [orjson.loads(line) for line in path.read_bytes().splitlines()]
        assert [(line["run"], line["name"]) for line in lines] == [("a", "first"), ("b", "second")]
