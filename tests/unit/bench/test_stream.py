from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import orjson
import pytest

from bench import stream as streams
from bench.stream import MARKED, Stream, is_marked, load_stream, make_id
from common.contracts.transactions import Transaction

TODAY = date(2026, 11, 20)
CUSTOMERS = 400


@pytest.fixture(scope="module")
def stream_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stream") / "stream.txt"
    load_stream(path, customers=CUSTOMERS, today=TODAY)
    return path


@pytest.fixture
def stream(stream_file: Path) -> Stream:
    return load_stream(stream_file, customers=CUSTOMERS, today=TODAY)


def transactions(stream: Stream, count: int, *, first: int = 0) -> Iterator[Transaction]:
    for position in range(first, first + count):
        yield Transaction.model_validate_json(stream.body(make_id("b0001", position), position))


class TestStream:
    def test_every_payment_of_a_day_is_one_that_the_product_takes(self, stream: Stream) -> None:
        found = list(transactions(stream, len(stream.templates)))

        assert len({each.transaction_id for each in found}) == len(found) > 300
        assert len({each.customer_id for each in found}) > 100

    def test_three_of_each_hundred_are_marked(self, stream: Stream) -> None:
        found = list(transactions(stream, 300))

        assert sum(each.merchant_category == MARKED for each in found) == 9
        assert sum(map(is_marked, range(1000))) == 30

    def test_the_next_day_repeats_payments_a_day_later(self, stream: Stream) -> None:
        (first,) = transactions(stream, 1, first=5)
        (second,) = transactions(stream, 1, first=5 + len(stream.templates))

        assert second.event_time - first.event_time == timedelta(days=1)
        assert second.customer_id == first.customer_id

    def test_no_payment_lies_ahead_or_beyond_the_longest_window(self, stream: Stream) -> None:
        last_position = 10_000 * len(stream.templates)

        (first,) = transactions(stream, 1)
        (last,) = transactions(stream, 1, first=last_position)

        assert timedelta(days=28) <= TODAY - first.event_time.date() <= timedelta(days=30)
        assert last.event_time.date() <= TODAY

    def test_one_address_of_fifty_changes_from_day_to_day(self, stream: Stream) -> None:
        count = len(stream.templates)
        today = [each.ip_address for each in transactions(stream, count)]
        tomorrow = [each.ip_address for each in transactions(stream, count, first=count)]

        changed = sum(first != second for first, second in zip(today, tomorrow, strict=True))
        assert 0 < changed <= count / 50 + 1

    def test_positions_are_never_used_twice(self, stream: Stream) -> None:
        first = [request.id for request in stream.requests("a", b"", count=3)]
        second = [request.id for request in stream.requests("a", b"", count=3)]

        assert not set(first) & set(second)

    def test_a_request_carries_its_id(self, stream: Stream) -> None:
        request = next(stream.requests("b0007", b"HEAD ", count=1))

        body = request.wire.partition(b"\r\n\r\n")[2]
        assert orjson.loads(body)["transaction_id"] == request.id == "b0007-0000000000"
        assert request.wire.startswith(b"HEAD %d\r\n" % len(body))

    def test_the_file_is_made_once_for_the_same_customers(self, stream_file: Path, stream: Stream) -> None:
        before = stream_file.stat().st_mtime_ns

        again = load_stream(stream_file, customers=CUSTOMERS, today=TODAY)
        made_anew = load_stream(stream_file.with_name("other.txt"), customers=50, today=TODAY)

        assert stream_file.stat().st_mtime_ns == before
        assert again.templates == stream.templates
        assert len(made_anew.templates) < len(stream.templates)

    def test_a_file_of_another_format_is_made_anew(self, tmp_path: Path) -> None:
        path = tmp_path / "stream.txt"
        path.write_text("0 0 0\nrubbish\n")

        found = load_stream(path, customers=50, today=TODAY)

        assert path.read_text().startswith(f"{streams.FORMAT} ")
        assert found.templates
