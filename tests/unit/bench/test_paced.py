from bench.figures import Figure
from bench.load_outcome import TIMED_OUT, LoadOutcome, Sample
from bench.paced import Offered, overload_figures, recovered_after_s


def sample(due: float, latency_ms: float, *, status: int = 200, polite: bool = True) -> Sample:
    return Sample(
        f"tx-{due}", due, due, due + latency_ms / 1000, status, is_polite_refusal=polite and status == 503
    )


def offered(*samples: Sample, seconds: float = 1.0, lost: int = 0) -> Offered:
    return Offered("b0001", 100.0, seconds, LoadOutcome(samples, connections=8), lost)


def by_name(figures: list[Figure]) -> dict[str, Figure]:
    return {figure.name.removeprefix("LEAN_overload_2x_"): figure for figure in figures}


class TestOverloadFigures:
    def test_goodput_counts_what_was_acknowledged_while_the_load_was_on(self) -> None:
        calm = offered(*(sample(number / 100, 5) for number in range(100)))
        found = offered(
            *(sample(number / 200, 8) for number in range(95)),
            *(sample(0.5, 3, status=503) for _ in range(105)),
            sample(1.5, 5),
        )

        figures = by_name(list(overload_figures("LEAN", 2, found, first=calm, capacity=100)))

        assert figures["goodput"].value == 0.95
        assert all(figure.holds for figure in figures.values())

    def test_slow_bare_and_missing_answers_are_breaches(self) -> None:
        calm = offered(*(sample(number / 100, 5) for number in range(100)))
        found = offered(
            *(sample(number / 200, 40) for number in range(50)),
            sample(0.5, 80, status=503, polite=False),
            sample(0.6, 1000, status=TIMED_OUT),
            lost=1,
        )

        figures = by_name(list(overload_figures("LEAN", 2, found, first=calm, capacity=100)))

        assert {name for name, figure in figures.items() if figure.holds is False} == {
            "goodput", "accepted_p99", "503_p99", "503_bare", "unanswered", "lost",
        }  # fmt: skip


class TestRecovery:
    def test_it_ends_with_the_last_second_that_was_slow(self) -> None:
        outcome = LoadOutcome((sample(20.5, 90), sample(21.5, 5), sample(22.5, 60), sample(23.5, 5)), 8)

        assert recovered_after_s(outcome, start=20, p99_ms=20) == 3

    def test_a_second_with_a_lost_answer_is_not_recovered(self) -> None:
        outcome = LoadOutcome((sample(20.5, 5), sample(21.5, 5, status=TIMED_OUT), sample(22.5, 5)), 8)

        assert recovered_after_s(outcome, start=20, p99_ms=20) == 2

    def test_nothing_slow_is_recovered_at_once(self) -> None:
        assert recovered_after_s(LoadOutcome((sample(20.5, 5),), 8), start=20, p99_ms=20) == 0
