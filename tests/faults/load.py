"""An open-loop client: requests go out when they are due, whatever became of those before, and all is written down."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv6Address
from itertools import count
from math import ceil
from typing import Any

import aiohttp

from common.clock import epoch_ms, utc_now
from tests.factories import transaction_body
from tests.faults.history import DECIDED_AGAIN, Attempt, Ending, Wanted
from tests.models import FINE, FRAUD

PROBLEM = "application/problem+json"
CONFLICTING = "31.41"
FIRST_ADDRESS = int(IPv6Address("2a02::"))
AGAIN_S = 0.25


@dataclass(frozen=True)
class Mix:
    """What is sent: so many requests a second, and every so many-th of them is special."""

    rate: float = 50.0
    flagged: int = 20
    twice: int = 25  # the same body at the same moment
    repeated: int = 33  # a body of about a second ago
    conflicting: int = 50  # another body under an id that was answered


class Load:
    """Sends for one caller. `phase` is written beside every request; set it whenever something changes."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        label: str,
        mix: Mix | None = None,
        seed: int = 1,
        timeout_s: float = 2.0,
        institution_id: str = "",
    ) -> None:
        self.phase = ""
        self.history: list[Attempt] = []
        self._url = f"{url}/v1/score"
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._institution_id = institution_id
        self._label = label
        self._mix = mix or Mix()
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._bodies: dict[str, str] = {}
        self._acknowledged: list[str] = []
        self._answered: set[str] = set()
        self._sending: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send while the block runs; at its end, wait until everything under way has ended."""
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(
            headers=self._headers, timeout=self._timeout, connector=connector
        ) as self._session:
            pacing = asyncio.create_task(self._pace())
            try:
                yield
            finally:
                pacing.cancel()
                with suppress(asyncio.CancelledError):
                    await pacing  # what ended it early is raised: nothing was tested
                await asyncio.gather(*self._sending)

    async def converge(self, *, within_s: float) -> None:
        """Repeat what was never answered until all of it is, or the time is over."""
        self.phase = "converging"
        deadline = time.monotonic() + within_s
        async with aiohttp.ClientSession(headers=self._headers, timeout=self._timeout) as self._session:
            while (missing := self.unanswered()) and time.monotonic() < deadline:
                for transaction_id in missing:
                    await self._send(transaction_id, self._bodies[transaction_id], Wanted.DECISION, 0.0)
                    if self.history[-1].ending is not Ending.OK:
                        await asyncio.sleep(AGAIN_S)
                        break

    async def sees_recovery(self, *, within_s: float) -> bool:
        """Send flagged transactions one by one until an answer says that all parts work; say whether one did."""
        self.phase = "recovering"
        deadline = time.monotonic() + within_s
        async with aiohttp.ClientSession(headers=self._headers, timeout=self._timeout) as self._session:
            for number in count(1):
                transaction_id = f"{self._label}-after-{number}"
                self._bodies[transaction_id] = json.dumps(self._new_body(transaction_id, is_flagged=True))
                await self._send(transaction_id, self._bodies[transaction_id], Wanted.DECISION, 0.0)
                if _all_work(self.history[-1].answer):
                    return True
                if time.monotonic() > deadline:
                    break
                await asyncio.sleep(AGAIN_S)
        return False

    def unanswered(self) -> list[str]:
        """Return the transactions that have no decision yet."""
        return [each for each in self._bodies if each not in self._answered]

    async def _pace(self) -> None:
        started = time.monotonic()
        number = 0
        while True:
            number += 1
            due = started + number / self._mix.rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            for transaction_id, body, wanted in self._requests(number):
                task = asyncio.create_task(self._send(transaction_id, body, wanted, due))
                self._sending.add(task)
                task.add_done_callback(self._sending.discard)

    def _requests(self, number: int) -> list[tuple[str, str, Wanted]]:
        mix = self._mix
        if number % mix.conflicting == 0 and self._acknowledged:
            transaction_id = self._acknowledged[-1]
            other = json.loads(self._bodies[transaction_id]) | {"amount": CONFLICTING}
            return [(transaction_id, json.dumps(other), Wanted.CONFLICT)]
        if number % mix.repeated == 0 and len(self._bodies) > mix.rate:
            transaction_id = list(self._bodies)[-round(mix.rate)]
            return [(transaction_id, self._bodies[transaction_id], Wanted.DECISION)]
        transaction_id = f"{self._label}-{number}"
        body = json.dumps(self._new_body(transaction_id, is_flagged=number % mix.flagged == 0))
        self._bodies[transaction_id] = body
        times = 2 if number % mix.twice == 0 else 1
        return [(transaction_id, body, Wanted.DECISION)] * times

    def _new_body(self, transaction_id: str, *, is_flagged: bool) -> dict[str, Any]:
        return transaction_body(
            transaction_id=transaction_id,
            event_time=utc_now().isoformat(),
            amount=FRAUD if is_flagged else FINE,
            customer_id=f"customer-{transaction_id}",
            device_id=f"device-{transaction_id}",
            payment_method=None,
            # an address nobody asked for before, so that every transaction needs a look-up
            ip_address=str(IPv6Address(FIRST_ADDRESS + secrets.randbits(96))),
        )

    async def _send(self, transaction_id: str, body: str, wanted: Wanted, due: float) -> None:
        assert self._session is not None
        phase, sent_ms, started = self.phase, epoch_ms(), due or time.monotonic()
        heard: dict[str, Any]
        try:
            async with self._session.post(self._url, data=body.encode()) as response:
                heard = _heard(response, await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            heard = {"ending": Ending.INFO, "error": type(error).__name__}
        if heard["ending"] is Ending.OK:
            self._acknowledged.append(transaction_id)
            self._answered.add(transaction_id)
        self.history.append(
            Attempt(
                institution_id=self._institution_id,
                transaction_id=transaction_id,
                body=body,
                wanted=wanted,
                phase=phase,
                sent_ms=sent_ms,
                ended_ms=epoch_ms(),
                latency_ms=round((time.monotonic() - started) * 1000, 2),
                **heard,
            )
        )


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` of all values do not pass; 0 when there are none."""
    if not values:
        return 0.0
    return sorted(values)[max(0, ceil(share * len(values)) - 1)]


def _all_work(answer: dict[str, Any] | None) -> bool:
    delivered = {"alert": "delivered", "audit": "delivered"}
    return answer is not None and answer.get("degraded") == [] and answer.get("deliveries") == delivered


def _heard(response: aiohttp.ClientResponse, content: bytes) -> dict[str, Any]:
    answer = _json_object(content)
    heard: dict[str, Any] = {"status": response.status, "answer": answer}
    if response.status == 200:
        is_decision = answer is not None and isinstance(answer.get("decision_id"), str)
        return heard | {
            "ending": Ending.OK if is_decision else Ending.INFO,
            "replayed": DECIDED_AGAIN in response.headers,
        }
    is_problem = response.content_type == PROBLEM and answer is not None
    return heard | {
        "ending": Ending.FAIL,
        "problem": str(answer.get("type")) if is_problem and answer is not None else None,
        "has_retry_after": "Retry-After" in response.headers,
    }


def _json_object(content: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(content)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
