"""What ai_service answers while other services are away, and how it comes back by itself."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

import httpx
import pytest

from ai_service.main import SERVICE
from ai_service.settings import AiSettings
from common.app import Service, State, create_app
from common.auth.access import STALE_S, AccessState
from common.auth.access_file import AccessFile, Moment
from common.clock import epoch_ms
from common.contracts.access import AccessFeed, EndedSession
from tests.access_files import confirmed_at
from tests.api.ai_service.conftest import API_KEYS, Ai, OpenAi
from tests.asgi import open_app
from tests.conftest import RunningUserService
from tests.factories import transaction_body
from tests.fake_targets import FakeTargets
from tests.fakes import HASH_KEY, FakeUserService, new_key
from tests.servers import free_port, serving
from tests.waiting import eventually

FINE, FRAUD = "10.00", "900.00"
TOLD = {"alert": "delivered", "audit": "delivered"}


class TestWithoutUserService:
    async def test_scoring_goes_on_with_the_keys_and_the_token_it_has(
        self, open_ai: OpenAi, users: RunningUserService, targets: FakeTargets
    ) -> None:
        leaving = serving(users.fake.app)
        url = await leaving.__aenter__()
        async with open_ai(user_service_url=url) as ai:
            await leaving.__aexit__(None, None, None)

            response = await ai.score(amount=FRAUD)

        answer = response.json()
        assert (response.status_code, answer["degraded"], answer["deliveries"]) == (200, [], TOLD)
        assert answer["enrichment"]["geo"]["status"] == "found"
        assert len(targets.alerts) == len(targets.records) == 1

    async def test_a_token_of_an_unknown_key_is_refused_and_nothing_else_is(
        self, open_ai: OpenAi, users: RunningUserService
    ) -> None:
        leaving = serving(users.fake.app)
        url = await leaving.__aenter__()
        stranger = FakeUserService(new_key()).user_token()
        async with open_ai(user_service_url=url) as ai:
            await leaving.__aexit__(None, None, None)

            refused = [await ai.score(headers={"Authorization": f"Bearer {stranger}"}) for _ in range(5)]
            taken = await ai.score(amount=FINE)

        assert [response.status_code for response in refused] == [401] * 5
        assert taken.status_code == 200

    async def test_that_was_never_there_nobody_is_let_in_and_the_service_is_alive_but_not_ready(
        self, users: RunningUserService, models_dir: Path, tmp_path: Path
    ) -> None:
        settings = AiSettings(
            environment="test",
            database_url=f"sqlite:///{tmp_path}/ai.db",
            models_dir=models_dir,
            velocity_snapshot=tmp_path / "velocity.npz",
            user_service_url=f"http://127.0.0.1:{free_port()}",
            log_level="error",
        )
        async with open_app(create_app(SERVICE, settings)) as client:
            ai = Ai(client, users)
            statuses = [
                (await client.get("/health")).status_code,
                (await client.get("/ready")).status_code,
                (await ai.score(amount=FINE)).status_code,
            ]

        assert statuses == [200, 503, 503]


class TestWithoutNewsOfWhoMayGetIn:
    @pytest.mark.parametrize("door", ["hot", "route"])
    async def test_for_a_minute_scoring_goes_on_and_says_so_and_nothing_else_does(
        self, open_ai: OpenAi, users: RunningUserService, door: str
    ) -> None:
        service, access = with_access()
        async with open_ai(service=service, hot_door=door == "hot", access_poll_s=1) as ai:
            fresh = await ai.score(transaction_id="before")
            await stop_the_feed(users.fake)
            grow_old(access[0])
            token = await ai.score(transaction_id="by-token", headers=(known := ai.auth()))
            again = await ai.score(transaction_id="by-token-again", headers=known)
            by_key = await ai.client.post(
                "/v1/score",
                json=transaction_body(transaction_id="by-key", event_time="2026-11-01T10:00:00+00:00"),
                headers={"X-API-Key": API_KEYS["api_key"]},
            )
            refused = [
                await ai.get("/v1/transactions"),
                await ai.get(f"/v1/decisions/{fresh.json()['decision_id']}"),
                await ai.client.get("/v1/transactions", headers={"X-API-Key": API_KEYS["reading_key"]}),
            ]
            forbidden = await ai.client.get("/v1/transactions", headers={"X-API-Key": API_KEYS["api_key"]})
            unknown = await ai.client.get("/v1/transactions", headers={"X-API-Key": "x"})
            users.fake.access_status = 200
            heard_again = await eventually(lambda: is_read(ai))

        assert fresh.json()["degraded"] == []
        for answer in (token, again, by_key):
            assert (answer.status_code, answer.json()["degraded"]) == (200, ["revocation"])
        for answer in refused:
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
            assert answer.json()["type"] == "urn:assay:problem:unavailable"
        assert (forbidden.status_code, unknown.status_code) == (403, 401)
        assert heard_again

    async def test_what_ended_before_stays_ended(self, open_ai: OpenAi, users: RunningUserService) -> None:
        users.fake.access.append(EndedSession(session_id="ses_ended", until=2**40))
        service, access = with_access()
        async with open_ai(service=service, access_poll_s=1) as ai:
            await stop_the_feed(users.fake)
            grow_old(access[0])
            ended = {"Authorization": f"Bearer {users.fake.user_token(sid='ses_ended')}"}

            refused = [
                await ai.score(headers=ended),
                await ai.client.post("/v1/score", headers={"X-API-Key": API_KEYS["revoked_key"]}),
            ]

        assert [answer.status_code for answer in refused] == [401, 401]

    async def test_from_the_start_nobody_is_let_in(
        self, users: RunningUserService, models_dir: Path, tmp_path: Path
    ) -> None:
        users.fake.access_status = 503
        settings = AiSettings(
            environment="test",
            database_url=f"sqlite:///{tmp_path}/ai.db",
            models_dir=models_dir,
            velocity_snapshot=tmp_path / "velocity.npz",
            user_service_url=users.url,
            log_level="error",
        )
        async with open_app(create_app(SERVICE, settings)) as client:
            ai = Ai(client, users)
            await eventually(lambda: is_checked(client, "keys_loaded"))
            statuses = [
                (await ai.score(amount=FINE)).status_code,
                (await client.post("/v1/score", headers={"X-API-Key": API_KEYS["api_key"]})).status_code,
                (await ai.get("/v1/transactions")).status_code,
            ]
            checks = (await client.get("/ready")).json()["checks"]
            users.fake.access_status = 200
            afterwards = await eventually(lambda: is_read(ai))

        assert statuses == [503, 503, 503]
        assert (checks["keys_loaded"], checks["access_known"]) == (True, False)
        assert afterwards


class TestStartedWithoutUserService:
    @pytest.mark.parametrize("door", ["hot", "route"])
    async def test_it_goes_on_as_if_it_had_not_stopped(
        self, open_ai: OpenAi, users: RunningUserService, tmp_path: Path, door: str
    ) -> None:
        leaving = serving(users.fake.app)
        url = await leaving.__aenter__()
        kept = {"user_service_url": url, "access_folder": tmp_path, "hot_door": door == "hot"}
        async with open_ai(**kept) as ai:
            known = ai.auth()
        await leaving.__aexit__(None, None, None)
        file = AccessFile(tmp_path / "ai_service.access", source=f"assay at {url}")

        found: dict[str, list[tuple[int, object]]] = {}
        for age, seconds in {"young": 0, "old": STALE_S + 1}.items():
            confirmed_at(file, Moment.ago(seconds))
            async with open_ai(**kept) as ai:
                found[age] = [
                    await outcome(ai, f"{age}: token", known),
                    await outcome(ai, f"{age}: key", {"X-API-Key": API_KEYS["api_key"]}),
                    await outcome(ai, f"{age}: revoked", {"X-API-Key": API_KEYS["revoked_key"]}),
                    await outcome(ai, f"{age}: suspended", {"X-API-Key": API_KEYS["suspended_key"]}),
                    ((await ai.client.get("/v1/transactions", headers=known)).status_code, None),
                ]

        refused = [(401, None), (401, None)]
        degraded = (200, ["revocation"])
        assert found == {
            "young": [(200, []), (200, []), *refused, (200, None)],
            "old": [degraded, degraded, *refused, (503, None)],
        }


async def outcome(ai: Ai, transaction_id: str, headers: dict[str, str]) -> tuple[int, object]:
    """Score without an address, which nobody looks up without a service token; return status and degradations."""
    event_time = "2026-11-01T10:00:00+00:00"
    body = transaction_body(transaction_id=transaction_id, event_time=event_time, ip_address=None)
    response = await ai.client.post("/v1/score", json=body, headers=headers)
    return response.status_code, response.json().get("degraded")


class TestWithoutGeoIp:
    async def test_every_answer_says_so_and_the_service_is_soon_left_alone(
        self, ai: Ai, targets: FakeTargets
    ) -> None:
        targets.geoip_status = 503

        answers = [
            (await ai.score(transaction_id=f"tx-{number}", ip_address=f"81.2.70.{number}")).json()
            for number in range(30)
        ]

        assert [answer["degraded"] for answer in answers] == [["geoip"]] * 30
        assert len(targets.geoip_asked) == 5

    async def test_addresses_that_are_known_keep_their_place(self, ai: Ai, targets: FakeTargets) -> None:
        await ai.score(transaction_id="before")
        targets.geoip_status = 503
        for number in range(10):
            await ai.score(transaction_id=f"tx-{number}", ip_address=f"81.2.70.{number}")

        answer = (await ai.score(transaction_id="after")).json()

        assert answer["degraded"] == []
        assert answer["enrichment"]["geo"]["country"] == "DE"

    async def test_it_is_found_again_by_a_probe(self, ai: Ai, targets: FakeTargets) -> None:
        targets.geoip_status = 503
        for number in range(6):
            await ai.score(transaction_id=f"tx-{number}", ip_address=f"81.2.70.{number}")
        targets.geoip_status = 200
        numbers = count()

        async def is_found() -> bool:
            answer = (await ai.score(transaction_id=f"later-{next(numbers)}")).json()
            return bool(answer["degraded"] == [])

        assert await eventually(is_found)


class TestWithoutThoseWhoAreTold:
    async def test_answers_do_not_wait_for_them_and_payers_are_told_at_once_again_afterwards(
        self, ai: Ai, targets: FakeTargets
    ) -> None:
        targets.alert_status = targets.audit_status = 503
        pending = [
            (await ai.score(transaction_id=f"tx-{number}", amount=FRAUD)).json()["deliveries"]
            for number in range(10)
        ]
        targets.alert_status = targets.audit_status = 202
        await targets.until(alerts=10, records=10)

        numbers = count()

        async def is_told_at_once() -> bool:
            answer = (await ai.score(transaction_id=f"later-{next(numbers)}", amount=FRAUD)).json()
            return bool(answer["deliveries"] == TOLD)

        assert pending == [{"alert": "pending", "audit": "pending"}] * 10
        assert await eventually(is_told_at_once)

    async def test_a_backlog_arrives_once_and_whole(self, ai: Ai, targets: FakeTargets) -> None:
        targets.alert_status = targets.audit_status = 503
        backlog = 200
        for start in range(0, backlog, 50):
            await asyncio.gather(
                *(ai.score(transaction_id=f"tx-{start + number}", amount=FRAUD) for number in range(50))
            )
        targets.alert_status = targets.audit_status = 202

        await targets.until(alerts=backlog, records=backlog, timeout_s=40)

        wanted = sorted(f"tx-{number}" for number in range(backlog))
        assert sorted(alert["transaction_id"] for alert in targets.alerts) == wanted
        assert len({record["record_id"] for record in targets.records}) == backlog

    async def test_one_that_answers_too_late_for_payers_still_gets_everything(
        self, open_ai: OpenAi, targets: FakeTargets
    ) -> None:
        targets.meet = asyncio.Barrier(1000)  # so many never come: calls hang until it is broken
        async with open_ai(delivery_timeout_ms=50) as ai:
            answers = [
                (await ai.score(transaction_id=f"tx-{number}", amount=FRAUD)).json()["deliveries"]
                for number in range(5)
            ]
            await targets.meet.abort()
            targets.meet = None

            await targets.until(alerts=5, records=5, timeout_s=40)

        assert answers == [{"alert": "pending", "audit": "pending"}] * 5


def with_access() -> tuple[Service[AiSettings], list[AccessState]]:
    """Return the service, and where what it knows of who may get in is found once it has started."""
    found: list[AccessState] = []

    @asynccontextmanager
    async def build(settings: AiSettings) -> AsyncIterator[State]:
        async with SERVICE.build(settings) as state:
            found.append(state["token_verifier"].access)
            yield state

    return replace(SERVICE, build=build), found


def grow_old(access: AccessState) -> None:
    """Say that what is known was true more than a minute ago."""
    version, hash_key = access.version, base64.b64encode(HASH_KEY).decode()
    nothing = AccessFeed(
        after=version,
        version=version,
        mark=access.mark,
        more=False,
        hash_key=hash_key,
        institutions=(),
        api_keys=(),
        ended_sessions=(),
    )
    access.apply(nothing, as_of=time.monotonic() - STALE_S - 1, now=epoch_ms() // 1000)


async def stop_the_feed(users: FakeUserService) -> None:
    """Fail the feed, and wait for the first look that failed: none before it is under way any more."""
    users.access_status, asked = 503, users.access_asked

    async def was_refused() -> bool:
        return users.access_asked > asked

    await eventually(was_refused)


async def is_read(ai: Ai) -> bool:
    return (await ai.get("/v1/transactions")).status_code == 200


async def is_checked(client: httpx.AsyncClient, name: str) -> bool:
    return bool((await client.get("/ready")).json()["checks"][name])
