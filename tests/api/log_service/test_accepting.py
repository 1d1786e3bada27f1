import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from common.contracts.audit_records import RecordKind
from common.contracts.tokens import Scope
from tests.api.log_service.harness import (
    NEVER_S,
    Bucket,
    RunningLogService,
    log_settings,
    make_record,
    make_records,
    open_log_service,
)
from tests.conftest import RunningUserService
from tests.servers import free_port


class TestAcceptAuditRecords:
    async def test_answers_202_with_the_number_of_new_records(self, spooling: RunningLogService) -> None:
        response = await spooling.hand_over(make_records(3))

        assert response.status_code == 202
        assert response.json() == {"accepted": 3, "repeated": 0}

    async def test_counts_a_record_it_has_as_repeated(self, spooling: RunningLogService) -> None:
        await spooling.hand_over(make_records(3))

        response = await spooling.hand_over(make_records(3, first=2))

        assert response.json() == {"accepted": 1, "repeated": 2}
        assert await spooling.totals() == {"records": 4, "archived": 0, "spooled": 4}

    async def test_counts_a_record_that_is_twice_in_a_batch_once(self, spooling: RunningLogService) -> None:
        response = await spooling.hand_over([make_record(1), make_record(1)])

        assert response.json() == {"accepted": 1, "repeated": 1}

    async def test_counts_an_archived_record_as_repeated(self, archiving: RunningLogService) -> None:
        await archiving.hand_over(make_records(2))
        await archiving.all_archived(2)

        response = await archiving.hand_over(make_records(2))

        assert response.json() == {"accepted": 0, "repeated": 2}
        assert await archiving.totals() == {"records": 2, "archived": 2, "spooled": 0}

    async def test_keeps_each_record_once_when_many_hand_it_over_at_the_same_time(
        self, spooling: RunningLogService
    ) -> None:
        responses = await asyncio.gather(*[spooling.hand_over(make_records(5)) for _ in range(20)])

        assert {response.status_code for response in responses} == {202}
        assert sum(response.json()["accepted"] for response in responses) == 5
        assert await spooling.totals() == {"records": 5, "archived": 0, "spooled": 5}


class TestConflict:
    async def test_refuses_a_known_id_with_another_body(self, spooling: RunningLogService) -> None:
        await spooling.hand_over([make_record(1)])
        before = await spooling.metric('assay_archive_tampering_total{sign="record"}')

        response = await spooling.hand_over([make_record(1, note="forged")])

        assert response.status_code == 409
        assert response.json()["type"] == "urn:assay:problem:record-conflict"
        assert "forged" not in response.text
        assert await spooling.metric('assay_archive_tampering_total{sign="record"}') == before + 1

    async def test_keeps_nothing_of_the_batch_and_the_first_body(self, spooling: RunningLogService) -> None:
        first = make_record(1)
        await spooling.hand_over([first])

        await spooling.hand_over([make_record(2), make_record(1, note="forged")])

        assert (await spooling.totals())["records"] == 1
        kept = await spooling.read(f"/v1/audit/records/{first.record_id}")
        assert kept.content == first.body.encode()

    async def test_refuses_two_bodies_for_one_id_in_one_batch(self, spooling: RunningLogService) -> None:
        response = await spooling.hand_over([make_record(1), make_record(1, note="forged")])

        assert response.status_code == 409
        assert (await spooling.totals())["records"] == 0

    async def test_does_not_refuse_the_batches_that_share_its_commit(
        self, spooling: RunningLogService
    ) -> None:
        await spooling.hand_over([make_record(1)])
        forged = [make_record(1, note="forged")]

        responses = await asyncio.gather(
            *[spooling.hand_over(forged if n % 2 else make_records(1, first=10 + n)) for n in range(10)]
        )

        assert [response.status_code for response in responses] == [202, 409] * 5


class TestInvalidRecords:
    @pytest.mark.parametrize(
        "changes",
        [
            pytest.param({"sha256": "0" * 64}, id="a digest of something else"),
            pytest.param({"body": '{"a":1}\n{"b":2}'}, id="two lines"),
            pytest.param({"body": '"' + "x" * 262_144 + '"'}, id="too long"),
            pytest.param({"body": '{"forged":true}'}, id="a body that is no decision"),
            pytest.param({"institution_id": "ins_rival"}, id="an institution that the body does not name"),
            pytest.param({"sequence": 2**63}, id="a sequence no database holds"),
            pytest.param(
                {"created_at": datetime.fromisoformat("0001-01-01T00:00:00+14:00")},
                id="before the first year",
            ),
        ],
    )
    async def test_are_refused_with_all_that_came_with_them(
        self, spooling: RunningLogService, changes: dict[str, Any]
    ) -> None:
        response = await spooling.hand_over([make_record(1), make_record(**{"sequence": 2, **changes})])

        assert response.status_code == 422
        assert response.json()["type"] == "urn:assay:problem:invalid-record"
        assert "record 1" in response.json()["detail"]
        assert (await spooling.totals())["records"] == 0

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (b"{", 400),
            (b'{"records":[]}', 422),
            (b'{"records":[{"record_id":"canary"}]}', 422),
            (b'{"records":"canary"}', 422),
            (b"\xff", 400),
        ],
    )
    async def test_bodies_that_are_no_batch_are_refused_and_not_echoed(
        self, spooling: RunningLogService, body: bytes, status: int
    ) -> None:
        token = spooling.users.fake.service_token(Scope.AUDIT_WRITE)

        response = await spooling.client.post(
            "/v1/internal/audit-records",
            content=body,
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )

        assert response.status_code == status
        assert response.headers["Content-Type"] == "application/problem+json"
        assert "canary" not in response.text


class TestWhoMayHandOver:
    @pytest.mark.parametrize("scopes", [[Scope.AUDIT_READ], [Scope.ALERTS_WRITE]])
    async def test_refuses_services_without_the_scope(
        self, spooling: RunningLogService, scopes: list[Scope]
    ) -> None:
        token = spooling.users.fake.service_token(*scopes)

        response = await spooling.client.post(
            "/v1/internal/audit-records", json={}, headers={"Authorization": f"Bearer {token}"}
        )

        assert response.status_code == 403

    async def test_refuses_users(self, spooling: RunningLogService) -> None:
        token = spooling.users.fake.user_token(scopes=[Scope.AUDIT_READ])

        response = await spooling.client.post(
            "/v1/internal/audit-records", json={}, headers={"Authorization": f"Bearer {token}"}
        )

        assert response.status_code == 403

    async def test_refuses_callers_without_a_token(self, spooling: RunningLogService) -> None:
        response = await spooling.client.post("/v1/internal/audit-records", json={})

        assert response.status_code == 401

    @pytest.mark.parametrize(
        ("kind", "writer"), [(RecordKind.DECISION, "user_service"), (RecordKind.IDENTITY, "ai_service")]
    )
    async def test_refuses_a_kind_of_record_that_another_service_writes(
        self, spooling: RunningLogService, kind: RecordKind, writer: str
    ) -> None:
        refused = await spooling.hand_over([make_record(kind=kind)], writer=writer)

        assert refused.status_code == 403
        assert refused.json()["type"] == "urn:assay:problem:not-its-record"
        assert (await spooling.totals())["records"] == 0


class TestFullSpool:
    async def test_refuses_more_than_it_may_hold_and_takes_it_once_there_is_room(
        self, tmp_path: Path, users: RunningUserService, bucket: Bucket
    ) -> None:
        settings = log_settings(
            tmp_path, users, bucket, archive_interval_s=NEVER_S, spool_max_records=5, archive_object_records=5
        )
        async with open_log_service(settings, users) as service:
            await service.hand_over(make_records(4))

            refused = await service.hand_over(make_records(2, first=5))
            filled = await service.metric("assay_archive_spool_fill_ratio")
            await service.hand_over(make_records(1, first=5))  # five make an object full
            await service.spool_is_empty()
            taken = await service.hand_over(make_records(2, first=6))

        assert refused.status_code == 503
        assert refused.json()["type"] == "urn:assay:problem:overloaded"
        assert int(refused.headers["Retry-After"]) > 0
        assert filled == pytest.approx(0.8)
        assert taken.status_code == 202

    async def test_is_full_by_bytes_too_and_knows_so_after_a_restart(
        self, tmp_path: Path, users: RunningUserService
    ) -> None:
        nowhere = Bucket(f"http://127.0.0.1:{free_port()}", tmp_path / "s3")
        size = len(make_record(1).body.encode())
        settings = log_settings(
            tmp_path, users, nowhere, archive_interval_s=NEVER_S, spool_max_bytes=3 * size
        )
        async with open_log_service(settings, users) as service:
            taken = await service.hand_over(make_records(3))
            refused = await service.hand_over(make_records(1, first=4))
        async with open_log_service(settings, users) as service:
            refused_again = await service.hand_over(make_records(1, first=4))
            spooled = await service.metric("assay_archive_spooled_bytes")

        assert [taken.status_code, refused.status_code, refused_again.status_code] == [202, 503, 503]
        assert spooled == 3 * size


class TestDayOfARecord:
    async def test_is_its_utc_day(self, spooling: RunningLogService) -> None:
        late = datetime.fromisoformat("2026-11-02T23:30:00-02:00")

        await spooling.hand_over(
            [make_record(1, created_at=late), make_record(2, created_at=late.astimezone(UTC))]
        )

        assert (await spooling.totals(day="2026-11-03"))["records"] == 2
        assert (await spooling.totals(day="2026-11-02"))["records"] == 0
