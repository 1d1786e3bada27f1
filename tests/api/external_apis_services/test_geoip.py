import asyncio
from pathlib import Path

import httpx
import pytest

from common.contracts.geoip import MAX_ADDRESSES, GeoBatch, GeoLookup, GeoStatus
from common.contracts.tokens import Scope
from common.logging import FLUSH_S
from external_apis_services.settings import GeoProviderName
from tests.api.external_apis_services.conftest import RunningService, Start
from tests.mmdb_files import write_mmdb

KNOWN = "81.2.69.160"
FAULTS = "/v1/internal/geoip/mock"
READ, CONTROL = Scope.GEOIP_READ, Scope.GEOIP_CONTROL


async def look_up(service: RunningService, text: str) -> httpx.Response:
    return await service.client.get(f"/v1/internal/geoip/{text}", headers=service.headers(READ))


async def look_up_all(service: RunningService, body: object) -> httpx.Response:
    return await service.client.post("/v1/internal/geoip/batch", headers=service.headers(READ), json=body)


def problem_type(response: httpx.Response) -> str:
    assert response.headers["content-type"] == "application/problem+json"
    return str(response.json()["type"]).removeprefix("urn:assay:problem:")


class TestLookUp:
    async def test_answers_where_an_address_is(self, service: RunningService) -> None:
        response = await look_up(service, KNOWN)

        assert response.status_code == 200
        assert response.headers["content-type"] == "application/json"
        lookup = GeoLookup.model_validate_json(response.content)
        assert lookup.ip_address == KNOWN
        assert lookup.location.status is GeoStatus.FOUND
        assert (lookup.location.country, lookup.location.city) == ("FR", "Paris")

    async def test_answers_ipv6(self, service: RunningService) -> None:
        response = await look_up(service, "2A00:1450:4001:80b:0:0:0:200e")

        lookup = GeoLookup.model_validate_json(response.content)
        assert lookup.ip_address == "2a00:1450:4001:80b::200e"
        assert lookup.location.status is GeoStatus.FOUND

    async def test_answers_a_mapped_address_as_its_ipv4_address(self, service: RunningService) -> None:
        plain, mapped = await look_up(service, KNOWN), await look_up(service, f"::ffff:{KNOWN}")

        assert mapped.json() == plain.json()

    async def test_says_when_an_address_is_unknown(self, service: RunningService) -> None:
        response = await look_up(service, "1.0.9.0")

        assert response.json()["location"]["status"] == "unknown"

    @pytest.mark.parametrize(
        "text", ["10.0.0.1", "100.64.0.1", "224.0.0.1", "::1", "::ffff:127.0.0.1", "2002:7f00:1::"]
    )
    async def test_says_when_an_address_is_reserved(self, service: RunningService, text: str) -> None:
        response = await look_up(service, text)

        assert response.status_code == 200
        location = response.json()["location"]
        assert location.pop("status") == "reserved"
        assert set(location.values()) == {None}

    @pytest.mark.parametrize(
        "text",
        [
            "fe80::1%25eth0",
            "fe80::1%25%3Cscript%3E",
            "2130706433",
            "0177.0.0.1",
            "127.1",
            "0x7f.1",
            "1.2.3.4:80",
            "1.2.3.4/32",
            "1.2.3.4%2F32",
            "%5B::1%5D",
            "1.2.3",
            "255.255.255.256",
            "localhost",
            "%20",
            "",
            "batch",
            "x" * 2000,
        ],
    )
    async def test_refuses_other_text_without_repeating_it(self, service: RunningService, text: str) -> None:
        response = await look_up(service, text)

        assert response.status_code == 422
        assert problem_type(response) == "invalid-address"
        for part in ("eth0", "script", "2130706433", "0177", "0x7f", "localhost", "xxx"):
            assert part not in response.text

    async def test_writes_no_address_into_the_log(
        self, service: RunningService, capsys: pytest.CaptureFixture[str]
    ) -> None:
        await look_up(service, KNOWN)
        await look_up_all(service, {"ip_addresses": [KNOWN]})

        await asyncio.sleep(2 * FLUSH_S)  # lines of requests are written together
        printed = capsys.readouterr().out
        assert "request.answered" in printed
        assert KNOWN not in printed

    async def test_counts_answers_by_status(self, service: RunningService) -> None:
        await look_up(service, "10.0.0.1")

        metrics = (await service.client.get("/metrics")).text
        assert 'assay_geoip_addresses_total{status="reserved"}' in metrics


class TestLookUpAll:
    async def test_keeps_the_order_of_the_request(self, service: RunningService) -> None:
        texts = ["10.0.0.1", KNOWN, "1.0.9.0", "2a00:1450:4001:80b::200e", KNOWN, f"::ffff:{KNOWN}"]

        response = await look_up_all(service, {"ip_addresses": texts})

        assert response.status_code == 200
        batch = GeoBatch.model_validate_json(response.content)
        singles = [GeoLookup.model_validate_json((await look_up(service, text)).content) for text in texts]
        assert list(batch.results) == singles

    async def test_takes_as_many_addresses_as_the_contract_says(self, service: RunningService) -> None:
        texts = [f"9.9.{number}.1" for number in range(MAX_ADDRESSES)]

        response = await look_up_all(service, {"ip_addresses": texts})

        assert [found["ip_address"] for found in response.json()["results"]] == texts

    async def test_names_the_position_of_a_bad_address_and_not_its_text(
        self, service: RunningService
    ) -> None:
        response = await look_up_all(service, {"ip_addresses": [KNOWN, KNOWN, "<script>", KNOWN]})

        assert response.status_code == 422
        assert problem_type(response) == "invalid-address"
        assert "ip_addresses.2" in response.json()["detail"]
        assert "script" not in response.text

    @pytest.mark.parametrize(
        "body",
        [
            {},
            [],
            {"ip_addresses": []},
            {"ip_addresses": KNOWN},
            {"ip_addresses": [KNOWN] * (MAX_ADDRESSES + 1)},
            {"ip_addresses": [1]},
            {"ip_addresses": [None]},
            {"ip_addresses": [KNOWN], "more": 1},
        ],
    )
    async def test_refuses_a_body_of_another_shape(self, service: RunningService, body: object) -> None:
        response = await look_up_all(service, body)

        assert response.status_code == 422
        assert problem_type(response) == "invalid-request"

    @pytest.mark.parametrize(
        "content", [b"{", b'{"ip_addresses":["9.9.9.9"],"ip_addresses":["9.9.9.9"]}', b"\xff"]
    )
    async def test_refuses_a_body_that_is_not_strict_json(
        self, service: RunningService, content: bytes
    ) -> None:
        response = await service.client.post(
            "/v1/internal/geoip/batch",
            headers={**service.headers(READ), "Content-Type": "application/json"},
            content=content,
        )

        assert response.status_code == 400
        assert problem_type(response) == "malformed-json"


class TestMockControl:
    async def set(self, service: RunningService, **faults: object) -> httpx.Response:
        return await service.client.put(FAULTS, headers=service.headers(CONTROL), json=faults)

    async def test_starts_without_faults(self, service: RunningService) -> None:
        response = await service.client.get(FAULTS, headers=service.headers(CONTROL))

        assert response.json() == {"latency_ms": 0, "error_rate": 0.0, "outage": False}

    async def test_starts_as_the_settings_say(self, start: Start) -> None:
        async with start(
            mock_geoip_latency_ms=1, mock_geoip_error_rate=0.5, mock_geoip_outage=True
        ) as service:
            response = await service.client.get(FAULTS, headers=service.headers(CONTROL))

            assert response.json() == {"latency_ms": 1, "error_rate": 0.5, "outage": True}
            assert (await look_up(service, KNOWN)).status_code == 503

    @pytest.mark.parametrize("text", [KNOWN, "10.0.0.1"])
    async def test_answers_503_to_everything_in_an_outage_and_recovers(
        self, service: RunningService, text: str
    ) -> None:
        await self.set(service, outage=True)

        single, batch = await look_up(service, text), await look_up_all(service, {"ip_addresses": [text]})
        assert (single.status_code, batch.status_code) == (503, 503)
        assert problem_type(single) == problem_type(batch) == "unavailable"
        assert single.headers["retry-after"] == "1"

        await self.set(service)
        assert (await look_up(service, text)).status_code == 200

    async def test_stays_ready_in_an_outage(self, service: RunningService) -> None:
        await self.set(service, outage=True)

        assert (await service.client.get("/ready")).status_code == 200

    async def test_fails_the_same_share_of_calls_every_time(self, service: RunningService) -> None:
        await self.set(service, error_rate=0.25)

        statuses = [(await look_up(service, KNOWN)).status_code for _ in range(8)]

        assert statuses == [200, 200, 200, 503] * 2

    async def test_counts_a_batch_as_one_call(self, service: RunningService) -> None:
        await self.set(service, error_rate=0.5)

        batch = {"ip_addresses": [KNOWN] * 10}
        statuses = [(await look_up_all(service, batch)).status_code for _ in range(4)]

        assert statuses == [200, 503, 200, 503]

    async def test_answers_late_when_told_to(self, service: RunningService) -> None:
        await self.set(service, latency_ms=60_000)

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await look_up(service, KNOWN)

    @pytest.mark.parametrize(
        "faults",
        [
            {"latency_ms": -1},
            {"latency_ms": 60_001},
            {"latency_ms": 1.5},
            {"error_rate": -0.1},
            {"error_rate": 1.1},
            {"error_rate": "much"},
            {"outage": "perhaps"},
            {"more": 1},
        ],
    )
    async def test_refuses_faults_that_make_no_sense(
        self, service: RunningService, faults: dict[str, object]
    ) -> None:
        response = await self.set(service, **faults)

        assert response.status_code == 422
        assert problem_type(response) == "invalid-request"

    async def test_is_not_there_with_another_provider(self, start: Start, tmp_path: Path) -> None:
        file = write_mmdb(tmp_path / "c.mmdb", {"9.0.0.0/8": {"country_code": "US"}})
        async with start(
            geoip_provider=GeoProviderName.DATABASE, geoip_country_db=file, geoip_asn_db=None
        ) as service:
            for response in (
                await service.client.get(FAULTS, headers=service.headers(CONTROL)),
                await self.set(service, outage=True),
            ):
                assert response.status_code == 404
                assert problem_type(response) == "no-mock-provider"
            assert (await look_up(service, "9.9.9.9")).json()["location"]["country"] == "US"
