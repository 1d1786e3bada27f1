import asyncio
import zlib
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from common.canonical import sha256_hex
from common.contracts.audit_records import RecordKind
from common.contracts.institutions import Institution, InstitutionMode
from common.contracts.tokens import Scope
from common.errors import OverloadedError
from log_service.archive import service as reading
from log_service.bootstrap import build
from tests.api.common.conftest import assert_problem
from tests.api.log_service.harness import (
    BANK,
    DAY,
    NEVER_S,
    RIVAL,
    Bucket,
    RunningLogService,
    log_settings,
    make_record,
    make_records,
    open_log_service,
)
from tests.conftest import RunningUserService
from tests.waiting import eventually

LIVE_BANK = Institution(
    institution_id=BANK.institution_id, mode=InstitutionMode.LIVE, base_currency=BANK.base_currency
)


def only_object(bucket: Bucket) -> Path:
    """Return the file of the bucket's only object."""
    (key,) = bucket.objects()
    return bucket.root / key


class TestReadRecord:
    async def test_returns_a_spooled_record_byte_for_byte(self, spooling: RunningLogService) -> None:
        record = make_record(1)
        await spooling.hand_over([record])

        response = await spooling.read(f"/v1/audit/records/{record.record_id}")

        assert response.status_code == 200
        assert response.content == record.body.encode()
        assert response.headers["Content-Type"] == "application/json"
        assert response.headers["X-Record-SHA256"] == record.sha256
        assert response.headers["X-Record-State"] == "spooled"
        assert "X-Object-Key" not in response.headers

    async def test_returns_an_archived_record_byte_for_byte(
        self, archiving: RunningLogService, bucket: Bucket
    ) -> None:
        records = make_records(3)
        await archiving.hand_over(records)
        await archiving.all_archived(3)

        response = await archiving.read(f"/v1/audit/records/{records[1].record_id}")

        assert response.content == records[1].body.encode()
        assert response.headers["X-Record-State"] == "archived"
        assert response.headers["X-Object-Key"] in bucket.objects()

    @pytest.mark.parametrize("institution", [RIVAL, LIVE_BANK])
    async def test_hides_the_records_of_others(
        self, spooling: RunningLogService, institution: Institution
    ) -> None:
        record = make_record(1, institution=BANK)
        await spooling.hand_over([record])

        response = await spooling.read(f"/v1/audit/records/{record.record_id}", institution=institution)

        assert response.status_code == 404
        assert record.record_id not in response.text

    async def test_answers_404_for_what_does_not_exist(self, spooling: RunningLogService) -> None:
        response = await spooling.read("/v1/audit/records/dec_unknown")

        assert response.status_code == 404

    async def test_refuses_what_is_no_id_before_the_database_does(self, spooling: RunningLogService) -> None:
        responses = [await spooling.read(f"/v1/audit/records/{sent}") for sent in ("%00", "a%00b", "a%0Ab")]

        for response in responses:
            assert_problem(response, 422, "invalid-request")

    async def test_needs_the_scope_and_a_user(self, spooling: RunningLogService) -> None:
        fake = spooling.users.fake
        tokens = [fake.user_token(scopes=[Scope.DECISIONS_READ]), fake.service_token(Scope.AUDIT_READ)]

        for token in tokens:
            for path in ("records/dec_1", f"days/{DAY}", f"days/{DAY}/records"):
                response = await spooling.client.get(
                    f"/v1/audit/{path}", headers={"Authorization": f"Bearer {token}"}
                )

                assert response.status_code == 403


class TestReadDamagedArchive:
    @pytest.mark.parametrize(
        "damage",
        [
            pytest.param(lambda data: data[:-9], id="cut off"),
            pytest.param(lambda data: data + zlib.compress(b'{"forged":true}\n', wbits=31), id="added to"),
            pytest.param(
                lambda data: zlib.compress(
                    zlib.decompress(data, wbits=31).replace(b"note", b"NOTE"), wbits=31
                ),
                id="changed",
            ),
            pytest.param(lambda _data: b"no gzip", id="replaced"),
        ],
    )
    async def test_refuses_to_return_anything_from_it(
        self, archiving: RunningLogService, bucket: Bucket, damage: Callable[[bytes], bytes]
    ) -> None:
        record = make_record(1)
        await archiving.hand_over([record])
        await archiving.all_archived(1)
        file = only_object(bucket)
        file.write_bytes(damage(file.read_bytes()))
        before = await archiving.metric('assay_archive_tampering_total{sign="content"}')

        one = await archiving.read(f"/v1/audit/records/{record.record_id}")
        day = await archiving.read(f"/v1/audit/days/{DAY}/records")

        assert [one.status_code, day.status_code] == [502, 502]
        assert one.json()["type"] == "urn:assay:problem:archive-damaged"
        assert await archiving.metric('assay_archive_tampering_total{sign="content"}') == before + 2

    async def test_notices_an_object_that_was_taken_away(
        self, archiving: RunningLogService, bucket: Bucket
    ) -> None:
        record = make_record(1)
        await archiving.hand_over([record])
        await archiving.all_archived(1)
        only_object(bucket).unlink()

        response = await archiving.read(f"/v1/audit/records/{record.record_id}")

        assert response.status_code == 502


class TestReadDay:
    async def test_lists_the_objects_with_their_digests(
        self, archiving: RunningLogService, bucket: Bucket
    ) -> None:
        await archiving.hand_over(make_records(3, first=4))
        await archiving.all_archived(3)

        response = await archiving.read(f"/v1/audit/days/{DAY}")

        ((key, data),) = bucket.objects().items()
        assert response.json() == {
            "institution_id": "ins_bank",
            "institution_mode": "sandbox",
            "day": DAY,
            "totals": {"records": 3, "archived": 3, "spooled": 0},
            "items": [
                {
                    "key": key,
                    "number": 1,
                    "kind": "decision",
                    "record_count": 3,
                    "first_sequence": 4,
                    "last_sequence": 6,
                    "sha256": sha256_hex(zlib.decompress(data, wbits=31)),
                    "state": "stored",
                }
            ],
            "next_cursor": None,
        }

    async def test_gives_pages_of_objects(self, archiving: RunningLogService) -> None:
        for sequence in range(1, 4):
            await archiving.hand_over([make_record(sequence)])
            await archiving.all_archived(sequence)

        first = (await archiving.read(f"/v1/audit/days/{DAY}?limit=2")).json()
        last = (await archiving.read(f"/v1/audit/days/{DAY}?limit=2&cursor={first['next_cursor']}")).json()

        assert [item["number"] for item in first["items"]] == [1, 2]
        assert [item["number"] for item in last["items"]] == [3]
        assert last["next_cursor"] is None
        assert first["totals"] == last["totals"] == {"records": 3, "archived": 3, "spooled": 0}

    async def test_is_empty_for_others_and_for_other_days(self, archiving: RunningLogService) -> None:
        await archiving.hand_over(make_records(3))
        await archiving.all_archived(3)

        rivals = await archiving.read(f"/v1/audit/days/{DAY}", institution=RIVAL)
        tomorrow = await archiving.read("/v1/audit/days/2026-11-03")

        for answer in (rivals.json(), tomorrow.json()):
            assert answer["items"] == []
            assert answer["totals"] == {"records": 0, "archived": 0, "spooled": 0}

    @pytest.mark.parametrize(
        "day", ["20261102", "2026-13-01", "2026-02-30", "1700000000", "today", "२०२६-११-०२"]
    )
    async def test_takes_only_days(self, spooling: RunningLogService, day: str) -> None:
        response = await spooling.read(f"/v1/audit/days/{day}")

        assert response.status_code == 422
        assert day not in response.text


class TestReadRecordsOfDay:
    async def test_streams_spooled_and_archived_records_in_order_of_sequence(
        self, tmp_path: Path, users: RunningUserService, bucket: Bucket
    ) -> None:
        count = reading.PAGE_RECORDS * 2 + 5
        records = make_records(count)
        settings = log_settings(
            tmp_path, users, bucket, archive_interval_s=NEVER_S, archive_object_records=100
        )
        async with open_log_service(settings, users) as service:
            await asyncio.gather(
                *[service.hand_over(records[start::7]) for start in range(7)]
            )  # out of order

            async def most_are_archived() -> bool:
                return (await service.totals())["archived"] >= count // 2

            await eventually(most_are_archived)
            assert (await service.totals())["spooled"] >= 5

            response = await service.read(f"/v1/audit/days/{DAY}/records")

        assert response.status_code == 200
        assert response.headers["Content-Type"] == "application/x-ndjson"
        assert response.content == b"".join(record.body.encode() + b"\n" for record in records)

    async def test_refuses_more_streams_than_it_has_places_until_one_ends(
        self, tmp_path: Path, users: RunningUserService, bucket: Bucket
    ) -> None:
        settings = log_settings(tmp_path, users, bucket, archive_interval_s=NEVER_S)
        async with build(settings) as state:
            spool, archive = state["spool"], state["archive"]
            await spool.accept(make_records(1), writer="ai_service")
            day = date.fromisoformat(DAY)

            streams = [await archive.stream_day(BANK, day) for _ in range(reading.STREAMS)]
            with pytest.raises(OverloadedError):
                await archive.stream_day(BANK, day)
            await anext(streams[0])
            await streams[0].aclose()  # what a reader that goes away does
            read = [chunk async for chunk in streams[1]]
            again = [await archive.stream_day(BANK, day) for _ in range(2)]
            with pytest.raises(OverloadedError):
                await archive.stream_day(BANK, day)
            for stream in (*streams[2:], *again):
                async for _ in stream:
                    pass

        assert b"".join(read) == make_record(1).body.encode() + b"\n"

    async def test_leaves_out_other_days_and_other_institutions(self, spooling: RunningLogService) -> None:
        tomorrow = datetime(2026, 11, 3, tzinfo=UTC)
        mine = make_record(1)
        await spooling.hand_over(
            [mine, make_record(2, created_at=tomorrow), make_record(1, institution=RIVAL)]
        )

        response = await spooling.read(f"/v1/audit/days/{DAY}/records")

        assert response.content == mine.body.encode() + b"\n"

    async def test_is_empty_for_a_day_without_records(self, spooling: RunningLogService) -> None:
        response = await spooling.read("/v1/audit/days/2020-01-01/records")

        assert response.status_code == 200
        assert response.content == b""


class TestTwoKinds:
    """Decisions and identity records of one institution and day, each numbered by itself."""

    async def test_lie_in_objects_of_their_own_and_are_read_alike(
        self, archiving: RunningLogService, bucket: Bucket
    ) -> None:
        decisions = make_records(2)
        events = make_records(3, kind=RecordKind.IDENTITY)
        await archiving.hand_over(decisions)
        await archiving.hand_over(events, writer="user_service")
        await archiving.all_archived(5)

        one = await archiving.read(f"/v1/audit/records/{events[1].record_id}")
        day = (await archiving.read(f"/v1/audit/days/{DAY}")).json()
        lines = (await archiving.read(f"/v1/audit/days/{DAY}/records")).content.splitlines()
        hidden = await archiving.read(f"/v1/audit/records/{events[1].record_id}", institution=RIVAL)

        assert one.content == events[1].body.encode()
        assert one.headers["X-Record-State"] == "archived"
        assert "/identity-" in one.headers["X-Object-Key"]
        assert {each["kind"] for each in day["items"]} == {"decision", "identity"}
        assert {each["key"] for each in day["items"]} == set(bucket.objects())
        assert sorted(each["number"] for each in day["items"]) == list(range(1, len(bucket.objects()) + 1))
        assert lines == [each.body.encode() for each in (*decisions, *events)]
        assert hidden.status_code == 404
