"""When calls to another service are tried, under a clock that the test moves."""

from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from common.circuit import Circuit

PROBE_S = 5.0


class MovableClock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def open_circuit(clock: MovableClock) -> Circuit:
    circuit = Circuit("probed", failures_to_open=3, probe_every_s=PROBE_S, clock=clock)
    for _ in range(3):
        circuit.failed()
    return circuit


class TestOpening:
    def test_stays_closed_below_the_limit(self) -> None:
        circuit = Circuit("patient", failures_to_open=3)

        circuit.failed()
        circuit.failed()

        assert not circuit.is_open
        assert circuit.admits()

    def test_opens_after_that_many_failures_in_a_row(self) -> None:
        circuit = open_circuit(MovableClock())

        assert circuit.is_open
        assert not circuit.admits()

    def test_a_success_between_failures_starts_the_count_anew(self) -> None:
        circuit = Circuit("mixed", failures_to_open=3)

        for _ in range(10):
            circuit.failed()
            circuit.failed()
            circuit.succeeded()

        assert not circuit.is_open

    def test_opens_when_half_of_the_last_calls_failed_though_never_in_a_row(self) -> None:
        circuit = Circuit("half", failures_to_open=5, failing_share=0.5, of_last=20)

        for _ in range(9):
            circuit.succeeded()
            circuit.failed()
        circuit.succeeded()
        before = circuit.is_open
        circuit.failed()

        assert not before
        assert circuit.is_open

    def test_failures_older_than_the_window_are_forgotten(self) -> None:
        circuit = Circuit("old", failures_to_open=5, failing_share=0.5, of_last=4)

        circuit.failed()
        circuit.failed()
        circuit.succeeded()
        for _ in range(3):
            circuit.succeeded()
        circuit.failed()

        assert not circuit.is_open


class TestProbing:
    def test_nobody_probes_before_the_wait_is_over(self) -> None:
        clock = MovableClock()
        circuit = open_circuit(clock)

        clock.now += PROBE_S - 0.001

        assert not circuit.admits()

    def test_exactly_one_of_many_concurrent_callers_gets_the_probe(self) -> None:
        clock = MovableClock()
        circuit = open_circuit(clock)
        clock.now += PROBE_S

        admitted = [circuit.admits() for _ in range(100)]

        assert admitted.count(True) == 1

    def test_a_successful_probe_closes_it_for_everybody(self) -> None:
        clock = MovableClock()
        circuit = open_circuit(clock)
        clock.now += PROBE_S
        circuit.admits()

        circuit.succeeded()

        assert not circuit.is_open
        assert all(circuit.admits() for _ in range(10))

    def test_a_closed_circuit_needs_the_full_number_of_failures_again(self) -> None:
        circuit = open_circuit(MovableClock())
        circuit.succeeded()

        circuit.failed()
        circuit.failed()

        assert not circuit.is_open

    def test_a_closed_circuit_has_forgotten_the_calls_that_opened_it(self) -> None:
        circuit = Circuit("fresh", failures_to_open=5, failing_share=0.5, of_last=4)
        for _ in range(5):
            circuit.failed()

        circuit.succeeded()
        circuit.failed()

        assert not circuit.is_open

    def test_a_failed_probe_restarts_the_wait(self) -> None:
        clock = MovableClock()
        circuit = open_circuit(clock)
        clock.now += PROBE_S
        circuit.admits()
        clock.now += 1.0  # the probe took a second to fail

        circuit.failed()

        clock.now += PROBE_S - 0.001
        assert not circuit.admits()
        clock.now += 0.002
        assert circuit.admits()

    def test_calls_that_began_before_it_opened_do_not_put_the_probe_off(self) -> None:
        clock = MovableClock()
        circuit = open_circuit(clock)
        clock.now += PROBE_S - 0.001

        circuit.failed()

        clock.now += 0.002
        assert circuit.admits()

    def test_a_probe_that_was_never_reported_does_not_block_the_next_one(self) -> None:
        clock = MovableClock()
        circuit = open_circuit(clock)
        clock.now += PROBE_S
        circuit.admits()  # this caller was cancelled

        clock.now += PROBE_S

        assert [circuit.admits() for _ in range(3)] == [True, False, False]


class TestRefuses:
    def test_says_what_a_caller_would_hear_and_takes_no_probe(self) -> None:
        clock = MovableClock()
        circuit = open_circuit(clock)

        before = circuit.refuses
        clock.now += PROBE_S
        when_due = [circuit.refuses for _ in range(3)]
        circuit.admits()

        assert (before, when_due, circuit.refuses) == (True, [False] * 3, True)

    def test_a_closed_circuit_refuses_nobody(self) -> None:
        assert not Circuit("closed").refuses


class TestTelling:
    def test_the_one_who_asked_for_it_hears_of_every_success_that_follows_a_failure(self) -> None:
        circuit = Circuit("heard", failures_to_open=2)
        heard: list[bool] = []
        circuit.on_recovery(lambda: heard.append(circuit.is_open))

        circuit.succeeded()
        circuit.failed()
        circuit.succeeded()
        circuit.succeeded()
        circuit.failed()
        circuit.failed()
        circuit.succeeded()

        assert heard == [False, False]

    def test_each_change_is_one_line_and_the_gauge_follows(self) -> None:
        circuit = Circuit("told", failures_to_open=2)

        with capture_logs() as lines:
            for _ in range(4):
                circuit.failed()
            while_open = REGISTRY.get_sample_value("assay_circuit_open", {"circuit": "told"})
            circuit.succeeded()
            circuit.succeeded()

        assert [line["event"] for line in lines] == ["circuit.opened", "circuit.closed"]
        assert while_open == 1
        assert REGISTRY.get_sample_value("assay_circuit_open", {"circuit": "told"}) == 0
