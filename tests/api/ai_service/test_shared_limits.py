"""Two processes of ai_service over one real Valkey: one budget, whichever door a payment comes through."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
from pydantic import SecretStr

from tests.api.ai_service.conftest import OpenAi
from tests.api.ai_service.test_usage import Caller, allowing
from tests.fakes import FakeAllowances, allowance
from tests.valkey import ValkeyServer

ALLOWED = 20


class TestTwoProcesses:
    async def test_share_one_budget_exactly_at_both_doors(
        self, open_ai: OpenAi, tmp_path: Path, valkey_url: str, valkey_server: ValkeyServer
    ) -> None:
        service = allowing(FakeAllowances(allowance(caller_requests_per_second=ALLOWED)))
        async with AsyncExitStack() as stack:
            callers = []
            for hot_door in (True, False):
                ai = await stack.enter_async_context(
                    open_ai(
                        service=service,
                        hot_door=hot_door,
                        database_url=f"sqlite:///{tmp_path}/{hot_door}.db",
                        velocity_snapshot=tmp_path / f"{hot_door}.npz",
                        valkey_url=SecretStr(valkey_url),
                        valkey_timeout_ms=5000,
                    )
                )
                callers.append(await Caller(ai).known())
            await _until_a_second_begins(valkey_server, seconds=2)

            turns = [await caller.score(f"tx-{number}-first") for number in range(2) for caller in callers]
            at_once = await asyncio.gather(
                *(caller.score(f"tx-{number}") for number in range(ALLOWED) for caller in callers)
            )

        answers = [*turns, *at_once]
        by_door = [answers[0::2], answers[1::2]]
        assert [each.status_code for each in answers].count(200) == ALLOWED
        assert all(any(each.status_code == 200 for each in door) for door in by_door)
        assert sorted(left(each) for each in answers if each.status_code == 200) == list(range(ALLOWED))
        assert {each.headers["RateLimit-Policy"] for each in answers} == {
            f'"caller";q={ALLOWED};w=1, "institution";q=100000;w=1'
        }
        refused = [next(each for each in door if each.status_code == 429) for door in by_door]
        assert {each.json()["type"] for each in refused} == {"urn:assay:problem:rate-limited"}
        assert [left(each) for each in refused] == [0, 0]


def left(answer: httpx.Response) -> int:
    """Return what an answer says is left to the caller."""
    return int(answer.headers["RateLimit"].split(";r=")[1].split(";")[0])


async def _until_a_second_begins(server: ValkeyServer, *, seconds: int) -> None:
    """Wait until what came before counts no more, and a window has just begun."""
    with server.client() as client:
        _, microseconds = client.time()
    await asyncio.sleep(seconds + 1 - microseconds / 1e6)
