"""The GeoIP client against real sockets; only time is the test's own."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from ai_service.clients.geoip import FAILED_FOR_S, UNAVAILABLE, GeoIpClient
from common.auth.service_tokens import ServiceTokens
from common.contracts.geoip import GeoLocation, GeoStatus
from common.contracts.tokens import ServiceTokenRequest
from common.delivery import courier
from tests.raw_servers import answering, reply
from tests.waiting import PATIENCE_S

ADDRESS = ip_address("81.2.69.160")
BERLIN = {"status": "found", "country": "DE", "city": "Berlin", "latitude": 52.52, "longitude": 13.405}
CACHE_S = 3600.0
PROBE_S = 5.0


@dataclass
class Service:
    """Answers look-ups as it is told, and counts them; the clock of the client moves only when told to."""

    body: bytes = b""
    status: int = 200
    asked: int = 0
    stalls: bool = False
    takes_s: float = 0
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    now: float = 1000.0

    def finds(self, address: str = str(ADDRESS), **changes: object) -> None:
        """Answer with a location."""
        self.status = 200
        self.body = json.dumps({"ip_address": address, "location": {**BERLIN, **changes}}).encode()

    async def answer(self, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        if self.stalls:
            await self._stall(writer)
        await asyncio.sleep(self.takes_s)
        writer.write(reply(self.status, self.body))

    async def _stall(self, writer: asyncio.StreamWriter) -> None:
        """Never come to an end; only who writes hears that the other side has hung up."""
        try:
            while True:
                writer.write(b"H")
                await writer.drain()
                await asyncio.sleep(0.005)
        except ConnectionError:
            self.hung_up.set()

    def clock(self) -> float:
        return self.now


@pytest.fixture
def service() -> Service:
    made = Service()
    made.finds()
    return made


async def _token(_request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json={"access_token": "token", "token_type": "Bearer", "expires_in": 900})


@asynccontextmanager
async def open_client(
    service: Service,
    *,
    timeout_s: float = PATIENCE_S,
    with_token: bool = True,
    cache_size: int = 1000,
    clock: Callable[[], float] | None = None,
) -> AsyncIterator[GeoIpClient]:
    users = httpx.AsyncClient(transport=httpx.MockTransport(_token), base_url="http://users.test")
    credentials = ServiceTokenRequest(client_id="ai_service", client_secret=SecretStr("secret"))
    tokens = ServiceTokens(users, credentials=credentials)
    if with_token:
        await tokens.renew()
    async with (
        answering(service.answer) as base_url,
        courier(base_url, timeout_s=PATIENCE_S) as client,
    ):
        yield GeoIpClient(
            client,
            tokens,
            timeout_s=timeout_s,
            cache_s=CACHE_S,
            cache_size=cache_size,
            clock=clock or service.clock,
        )


@pytest.fixture
async def geoip(service: Service) -> AsyncIterator[GeoIpClient]:
    async with open_client(service) as opened:
        yield opened


def addresses(count: int) -> list[IPv4Address | IPv6Address]:
    return [ip_address(f"81.2.70.{number}") for number in range(count)]


async def fail_times(geoip: GeoIpClient, count: int) -> list[GeoLocation]:
    return [await geoip.locate(address) for address in addresses(count)]


class TestCache:
    @pytest.mark.parametrize("status", ["found", "unknown", "reserved"])
    async def test_an_answer_is_remembered_whatever_it_says(
        self, geoip: GeoIpClient, service: Service, status: str
    ) -> None:
        service.finds(status=status)

        first = await geoip.locate(ADDRESS)
        again = await geoip.locate(ADDRESS)

        assert first.status.value == status
        assert geoip.cached(ADDRESS) is again is first
        assert service.asked == 1

    async def test_an_answer_is_forgotten_when_its_time_is_over(
        self, geoip: GeoIpClient, service: Service
    ) -> None:
        await geoip.locate(ADDRESS)

        service.now += CACHE_S - 1
        before = geoip.cached(ADDRESS)
        service.now += 2

        assert before is not None
        assert geoip.cached(ADDRESS) is None

    async def test_what_was_never_asked_has_to_be_asked(self, geoip: GeoIpClient) -> None:
        assert geoip.cached(ADDRESS) is None

    async def test_an_ipv6_address_is_not_taken_for_the_ipv4_address_of_the_same_number(
        self, geoip: GeoIpClient
    ) -> None:
        await geoip.locate(ADDRESS)

        assert geoip.cached(IPv6Address(int(ADDRESS))) is None

    async def test_a_mapped_address_is_answered_in_its_plain_form(
        self, geoip: GeoIpClient, service: Service
    ) -> None:
        location = await geoip.locate(ip_address("::ffff:81.2.69.160"))

        assert location.country == "DE"

    async def test_the_oldest_answers_make_room(self, service: Service) -> None:
        async with open_client(service, cache_size=2) as geoip:
            for address in addresses(3):
                service.finds(str(address))
                await geoip.locate(address)

            known = [geoip.cached(address) is not None for address in addresses(3)]

        assert known == [False, True, True]

    async def test_many_who_ask_for_one_address_share_one_look_up(
        self, geoip: GeoIpClient, service: Service
    ) -> None:
        locations = await asyncio.gather(*(geoip.locate(ADDRESS) for _ in range(50)))

        assert {location.country for location in locations} == {"DE"}
        assert service.asked == 1


class TestOddAnswers:
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"[]",
            b"null",
            b"\xff",
            b"<html>",
            b"[" * 50_000,
            b'{"ip_address": "81.2.69.160", "location": {"status": "found", "latitude": NaN}}',
            b'{"ip_address": "81.2.69.160", "location": {"status": "found", "longitude": 1e999}}',
            b'{"ip_address": "81.2.69.160", "location": {"status": "nonsense"}}',
            b'{"ip_address": "81.2.69.160", "location": {"status": "found"}, "more": 1}',
            b'{"ip_address": "nowhere", "location": {"status": "found"}}',
            b'{"ip_address": "81.2.69.161", "location": {"status": "found"}}',
            b'{"ip_address": "81.2.69.160", "location": {"status": "found"}}' + b" " * 10_000_000,
        ],
    )
    async def test_are_no_location(self, geoip: GeoIpClient, service: Service, body: bytes) -> None:
        service.body = body

        assert await geoip.locate(ADDRESS) == UNAVAILABLE

    @pytest.mark.parametrize(
        "changes",
        [
            {"country": "ZZZ"},
            {"country": "de"},
            {"country": ""},
            {"latitude": 91},
            {"longitude": -181},
            {"asn": -1},
            {"city": "x" * 201},
            {"region": "x" * 201},
            {"status": "unavailable"},
        ],
    )
    async def test_are_no_location_in_part_either(
        self, geoip: GeoIpClient, service: Service, changes: dict[str, Any]
    ) -> None:
        service.finds(**changes)

        assert await geoip.locate(ADDRESS) == UNAVAILABLE

    @pytest.mark.parametrize("status", [301, 401, 404, 422, 429, 500, 502, 503])
    async def test_another_status_is_no_location(
        self, geoip: GeoIpClient, service: Service, status: int
    ) -> None:
        service.status = status

        assert await geoip.locate(ADDRESS) == UNAVAILABLE


class TestDeadline:
    async def test_a_service_that_does_not_come_to_an_end_is_left_with_its_connection_closed_and_no_task_behind(
        self, service: Service
    ) -> None:
        service.stalls = True
        async with open_client(service, timeout_s=0.05) as geoip:
            location = await geoip.locate(ADDRESS)
            running = [task for task in asyncio.all_tasks() if "_look_up" in repr(task.get_coro())]

            async with asyncio.timeout(PATIENCE_S):
                await service.hung_up.wait()

        assert location == UNAVAILABLE
        assert running == []

    async def test_one_who_stops_waiting_leaves_the_look_up_to_the_others(
        self, geoip: GeoIpClient, service: Service
    ) -> None:
        impatient = asyncio.create_task(geoip.locate(ADDRESS))
        patient = asyncio.create_task(geoip.locate(ADDRESS))
        await asyncio.sleep(0)
        impatient.cancel()

        assert (await patient).country == "DE"
        assert impatient.cancelled()
        assert service.asked == 1


class TestFailures:
    async def test_an_address_that_failed_is_not_asked_for_again_at_once(
        self, geoip: GeoIpClient, service: Service
    ) -> None:
        service.status = 503

        await geoip.locate(ADDRESS)
        at_once = geoip.cached(ADDRESS)
        service.now += FAILED_FOR_S + 0.1

        assert at_once == UNAVAILABLE
        assert geoip.cached(ADDRESS) is None
        assert service.asked == 1

    async def test_without_a_service_token_nothing_is_asked_and_nothing_remembered(
        self, service: Service
    ) -> None:
        async with open_client(service, with_token=False) as geoip:
            found = [await geoip.locate(ADDRESS) for _ in range(10)]

            assert found == [UNAVAILABLE] * 10
            assert geoip.cached(ADDRESS) is None
        assert service.asked == 0

    async def test_five_failures_in_a_row_end_the_asking_for_every_address(
        self, geoip: GeoIpClient, service: Service
    ) -> None:
        await geoip.locate(ADDRESS)
        service.asked = 0
        service.status = 503

        found = await fail_times(geoip, 100)

        assert found == [UNAVAILABLE] * 100
        assert service.asked == 5
        assert geoip.cached(ip_address("9.9.9.9")) == UNAVAILABLE

    async def test_many_that_fail_because_this_process_stood_still_count_once(self, service: Service) -> None:
        async with open_client(service, timeout_s=1, clock=time.monotonic) as geoip:
            service.takes_s = 0.5
            asked = [asyncio.create_task(geoip.locate(address)) for address in addresses(25)]
            await asyncio.sleep(0.1)
            time.sleep(1.1)  # noqa: ASYNC251 - what is tested
            found = await asyncio.gather(*asked)
            service.takes_s = 0

            afterwards = await geoip.locate(ADDRESS)

        assert [each.status for each in found] == [GeoStatus.UNAVAILABLE] * 25
        assert afterwards.status is GeoStatus.FOUND

    async def test_what_is_remembered_is_answered_all_the_same(
        self, geoip: GeoIpClient, service: Service
    ) -> None:
        await geoip.locate(ADDRESS)
        service.status = 503
        await fail_times(geoip, 5)

        assert (await geoip.locate(ADDRESS)).country == "DE"

    async def test_half_of_the_last_twenty_failing_ends_it_too(
        self, geoip: GeoIpClient, service: Service
    ) -> None:
        for number, address in enumerate(addresses(40)):
            service.finds(str(address))
            service.status = 200 if number % 2 else 500
            await geoip.locate(address)

        assert service.asked == 21  # the twentieth call was a success, and a success opens nothing

    async def test_every_five_seconds_one_probe_is_made_by_one_of_all_who_ask(
        self, geoip: GeoIpClient, service: Service
    ) -> None:
        service.status = 503
        await fail_times(geoip, 5)

        asked = []
        for _ in range(3):
            service.asked = 0
            service.now += PROBE_S
            await asyncio.gather(*(geoip.locate(address) for address in addresses(50)))
            asked.append(service.asked)

        assert asked == [1, 1, 1]

    async def test_a_probe_that_succeeds_lets_everybody_ask_again(
        self, geoip: GeoIpClient, service: Service
    ) -> None:
        service.status = 503
        await fail_times(geoip, 5)
        service.finds()

        service.now += PROBE_S
        probe = await geoip.locate(ADDRESS)
        service.finds("81.2.70.1")

        assert probe.country == "DE"
        assert (await geoip.locate(ip_address("81.2.70.1"))).country == "DE"

    async def test_an_address_that_is_not_read_says_nothing_about_the_service(
        self, geoip: GeoIpClient, service: Service
    ) -> None:
        service.status = 422
        await fail_times(geoip, 20)
        service.finds()

        assert (await geoip.locate(ADDRESS)).country == "DE"

    async def test_a_bounded_number_of_failed_addresses_is_remembered(self, service: Service) -> None:
        service.status = 422
        async with open_client(service, cache_size=3) as geoip:
            await fail_times(geoip, 5)

            known = [geoip.cached(address) is not None for address in addresses(5)]

        assert known == [False, False, True, True, True]
