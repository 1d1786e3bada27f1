from math import isnan

from bench.quantiles import quantiles


class TestQuantiles:
    def test_each_quantile_is_a_value_that_was_measured(self) -> None:
        found = quantiles([float(value) for value in range(1000, 0, -1)])

        assert (found.p50, found.p90, found.p99, found.p999, found.worst) == (500, 900, 990, 999, 1000)
        assert found.count == 1000

    def test_a_single_value_is_every_quantile(self) -> None:
        found = quantiles([7.0])

        assert {found.p50, found.p90, found.p99, found.p999, found.worst} == {7.0}

    def test_nothing_measured_is_not_a_good_latency(self) -> None:
        found = quantiles([])

        assert found.count == 0
        assert isnan(found.p99)
