import asyncio

import pytest

from ai_service.scoring.deadline import DeadlineInvalidError, Deadlines, seconds_allowed
from common.logging import request_id, start_request
from tests.waiting import PATIENCE_S


class Waiting:
    """An answer that somebody waits for."""

    def __init__(self, *, sent: bool = False) -> None:
        self.sent = sent
        self.expired = asyncio.Event()
        self.expired_for = ""

    async def expire(self) -> None:
        self.expired_for = request_id()
        self.expired.set()


class TestDeadlines:
    async def test_expire_what_was_not_sent_in_time_and_nothing_else(self) -> None:
        deadlines, late, sent, early = Deadlines(), Waiting(), Waiting(sent=True), Waiting()
        deadlines.watch(sent, 0.01)
        deadlines.watch(late, 0.02)
        deadlines.watch(early, 60)

        async with asyncio.timeout(PATIENCE_S):
            await late.expired.wait()

        assert not sent.expired.is_set()
        assert not early.expired.is_set()

    async def test_are_never_early(self) -> None:
        deadlines, waiting, loop = Deadlines(), Waiting(), asyncio.get_running_loop()
        began = loop.time()
        deadlines.watch(waiting, 0.03)

        async with asyncio.timeout(PATIENCE_S):
            await waiting.expired.wait()

        assert loop.time() - began >= 0.03

    async def test_expire_each_answer_as_a_part_of_its_own_request(self) -> None:
        deadlines, first, second = Deadlines(), Waiting(), Waiting()

        async def watch(answer: Waiting, name: str) -> None:
            start_request(name)
            deadlines.watch(answer, 0.02)

        await asyncio.gather(watch(first, "req-a"), watch(second, "req-b"))
        async with asyncio.timeout(PATIENCE_S):
            await first.expired.wait()
            await second.expired.wait()

        assert (first.expired_for, second.expired_for) == ("req-a", "req-b")

    async def test_go_on_after_a_pause(self) -> None:
        deadlines, first, second = Deadlines(), Waiting(), Waiting()
        async with asyncio.timeout(PATIENCE_S):
            deadlines.watch(first, 0.01)
            await first.expired.wait()
            deadlines.watch(second, 0.01)
            await second.expired.wait()


class TestSecondsAllowed:
    @pytest.mark.parametrize(("asked", "seconds"), [(None, 0.3), ("100", 0.1), ("300", 0.3), ("999999", 0.3)])
    def test_is_the_servers_limit_or_less(self, asked: str | None, seconds: float) -> None:
        assert seconds_allowed(asked, limit_ms=300) == seconds

    @pytest.mark.parametrize("asked", ["", "0", "-1", "1.5", " 5", "5 ", "1e3", "٥", "1000000", "ten"])
    def test_refuses_what_is_no_number_of_milliseconds(self, asked: str) -> None:
        with pytest.raises(DeadlineInvalidError):
            seconds_allowed(asked, limit_ms=300)
