import asyncio
import gzip
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer
from sqlalchemy import delete, insert, update

from common.canonical import sha256_hex
from common.db import writing_engine
from common.tenancy import of_every_tenant
from log_service.archive import tables
from tests.api.log_service.harness import (
    BANK,
    BUCKET,
    DAY,
    NEVER_S,
    RIVAL,
    Bucket,
    RunningLogService,
    log_settings,
    make_record,
    make_records,
    open_log_service,
    s3_server,
)
from tests.conftest import RunningUserService
from tests.integration.log_service.processes import archived_lines, bodies_of, s3_process
from tests.servers import free_port
from tests.waiting import eventually

FIRST_KEY = "audit/sandbox/ins_bank/2026/11/02/decision-000000000001.ndjson.gz"
SECOND_KEY = "audit/sandbox/ins_bank/2026/11/02/decision-000000000002.ndjson.gz"


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[Bucket]:
    """An S3 server that is up and has the bucket, so that objects can be planted in it."""
    (tmp_path / "s3" / BUCKET).mkdir(parents=True)
    with s3_server(tmp_path / "s3") as server:
        yield server


async def until_an_attempt_fails(service: RunningLogService) -> None:
    """Wait until an attempt to store an object fails."""
    sample = 'assay_archive_objects_total{result="failed"}'
    before = await service.metric(sample)

    async def has_failed() -> bool:
        return await service.metric(sample) > before

    await eventually(has_failed)


async def states(service: RunningLogService) -> dict[int, str]:
    """Return the state of each object of the day by its number."""
    objects = (await service.read(f"/v1/audit/days/{DAY}")).json()["items"]
    return {item["number"]: item["state"] for item in objects}


class TestObjects:
    async def test_hold_one_institution_and_one_day_in_order_of_sequence(
        self, tmp_path: Path, users: RunningUserService, bucket: Bucket
    ) -> None:
        mine = make_records(5)
        rivals = make_records(3, institution=RIVAL)
        tomorrow = make_records(2, first=6, created_at=datetime(2026, 11, 3, 0, 0, tzinfo=UTC))
        settings = log_settings(tmp_path, users, bucket, archive_interval_s=NEVER_S)

        async with open_log_service(settings, users) as service:
            await service.hand_over([*tomorrow, *rivals, *reversed(mine)])

        contents = {key: gzip.decompress(data) for key, data in bucket.objects().items()}
        rivals_key = FIRST_KEY.replace(BANK.institution_id, RIVAL.institution_id)
        tomorrows_key = SECOND_KEY.replace("/11/02/", "/11/03/")
        assert contents == {
            key: b"".join(record.body.encode() + b"\n" for record in records)
            for key, records in ((FIRST_KEY, mine), (rivals_key, rivals), (tomorrows_key, tomorrow))
        }

    async def test_are_full_at_the_stated_number_of_records(
        self, tmp_path: Path, users: RunningUserService, bucket: Bucket
    ) -> None:
        settings = log_settings(
            tmp_path, users, bucket, archive_interval_s=NEVER_S, archive_object_records=10
        )

        async with open_log_service(settings, users) as service:
            await service.hand_over(make_records(20))
            await service.all_archived(20)

        sizes = [gzip.decompress(data).count(b"\n") for data in bucket.objects().values()]
        assert sizes == [10, 10]


class TestOutage:
    async def test_ends_with_everything_archived_once(
        self, tmp_path: Path, users: RunningUserService
    ) -> None:
        port = free_port()
        bucket = Bucket(f"http://127.0.0.1:{port}", tmp_path / "s3")
        records = make_records(120)
        settings = log_settings(tmp_path, users, bucket, archive_object_records=25)
        async with open_log_service(settings, users) as service:
            for start in range(0, 120, 20):
                await service.hand_over(records[start : start + 20])
            await until_an_attempt_fails(service)
            during = await service.totals()
            readable = await service.read(f"/v1/audit/records/{records[7].record_id}")

            async with s3_process(tmp_path / "s3", port=port):
                await service.all_archived(120)
                reachable = await service.metric("assay_archive_reachable")

        assert during == {"records": 120, "archived": 0, "spooled": 120}
        assert readable.content == records[7].body.encode()
        assert reachable == 1
        assert archived_lines(bucket) == bodies_of(records)

    async def test_does_not_make_the_service_unready_or_refuse_records(
        self, tmp_path: Path, users: RunningUserService
    ) -> None:
        nowhere = Bucket(f"http://127.0.0.1:{free_port()}", tmp_path / "s3")
        async with open_log_service(log_settings(tmp_path, users, nowhere), users) as service:
            await service.hand_over(make_records(1))
            await until_an_attempt_fails(service)

            ready = await service.client.get("/ready")
            accepted = await service.hand_over(make_records(1, first=2))
            reachable = await service.metric("assay_archive_reachable")

        assert ready.json() == {
            "ready": True,
            "checks": {"database_connected": True, "keys_loaded": True, "access_known": True},
        }
        assert accepted.status_code == 202
        assert reachable == 0

    async def test_answers_503_for_an_archived_record(
        self, tmp_path: Path, users: RunningUserService
    ) -> None:
        port = free_port()
        bucket = Bucket(f"http://127.0.0.1:{port}", tmp_path / "s3")
        record = make_record(1)
        async with open_log_service(log_settings(tmp_path, users, bucket), users) as service:
            async with s3_process(tmp_path / "s3", port=port):
                await service.hand_over([record])
                await service.all_archived(1)

            one = await service.read(f"/v1/audit/records/{record.record_id}")
            day = await service.read(f"/v1/audit/days/{DAY}/records")

        assert [one.status_code, day.status_code] == [503, 503]
        assert one.json()["type"] == "urn:assay:problem:unavailable"
        assert "Retry-After" in one.headers


class TestConflict:
    @pytest.mark.parametrize(
        "planted",
        [
            pytest.param(gzip.compress(b'{"forged":true}\n'), id="another object"),
            pytest.param(b"no gzip", id="something that is no object"),
            pytest.param(b"", id="nothing"),
        ],
    )
    async def test_is_an_alarm_and_the_records_go_into_the_next_object(
        self, tmp_path: Path, users: RunningUserService, bucket: Bucket, planted: bytes
    ) -> None:
        taken = bucket.root / FIRST_KEY
        taken.parent.mkdir(parents=True)
        taken.write_bytes(planted)
        records = make_records(4)
        async with open_log_service(log_settings(tmp_path, users, bucket), users) as service:
            before = await service.metric('assay_archive_tampering_total{sign="object"}')

            await service.hand_over(records)
            await service.all_archived(4)

            found = await states(service)
            alarms = await service.metric('assay_archive_tampering_total{sign="object"}')
        objects = bucket.objects()
        assert alarms == before + 1
        assert objects.pop(FIRST_KEY) == planted
        assert list(objects) == [SECOND_KEY]
        assert gzip.decompress(objects[SECOND_KEY]).splitlines() == [
            record.body.encode() for record in records
        ]
        assert found == {1: "conflict", 2: "stored"}

    async def test_is_none_when_the_object_holds_the_same_content_in_other_bytes(
        self, tmp_path: Path, users: RunningUserService, bucket: Bucket
    ) -> None:
        records = make_records(4)
        same = gzip.compress(b"".join(record.body.encode() + b"\n" for record in records), compresslevel=9)
        taken = bucket.root / FIRST_KEY
        taken.parent.mkdir(parents=True)
        taken.write_bytes(same)
        settings = log_settings(tmp_path, users, bucket, archive_object_records=4)
        async with open_log_service(settings, users) as service:
            await service.hand_over(records)
            await service.all_archived(4)

        assert bucket.objects() == {FIRST_KEY: same}


class TestDamagedSpool:
    async def test_is_an_alarm_and_does_not_hold_up_other_objects(
        self, tmp_path: Path, users: RunningUserService
    ) -> None:
        port = free_port()
        bucket = Bucket(f"http://127.0.0.1:{port}", tmp_path / "s3")
        settings = log_settings(tmp_path, users, bucket)
        damaged, whole = make_record(1), make_record(2)
        async with open_log_service(settings, users) as service:
            before = await service.metric('assay_archive_tampering_total{sign="spool"}')
            await service.hand_over([damaged])
            await until_an_attempt_fails(service)
            engine = writing_engine(settings.database_url)
            with engine.begin() as connection:
                forging = update(tables.bodies).values(body=b'{"forged":true}')
                connection.execute(of_every_tenant(forging, "the test"))
            engine.dispose()

            read = await service.read(f"/v1/audit/records/{damaged.record_id}")
            async with s3_process(tmp_path / "s3", port=port):
                await service.hand_over([whole])

                async def both_are_settled() -> bool:
                    return await states(service) == {1: "damaged", 2: "stored"}

                await eventually(both_are_settled)
            alarms = await service.metric('assay_archive_tampering_total{sign="spool"}')

        assert read.status_code == 502
        assert "forged" not in read.text
        assert alarms == before + 1
        assert archived_lines(bucket) == bodies_of([whole])

    async def test_is_one_alarm_for_a_body_that_is_gone_and_the_first_are_archived(
        self, tmp_path: Path, users: RunningUserService, bucket: Bucket
    ) -> None:
        settings = log_settings(tmp_path, users, bucket, archive_interval_s=NEVER_S, archive_object_records=3)
        records = make_records(5)
        async with open_log_service(settings, users) as service:
            before = await service.metric('assay_archive_tampering_total{sign="spool"}')
            await service.hand_over(records[:2])
            engine = writing_engine(settings.database_url)
            with engine.begin() as connection:
                gone = tables.bodies.c.record_id == records[0].record_id
                connection.execute(of_every_tenant(delete(tables.bodies).where(gone), "the test"))
            engine.dispose()

            await service.hand_over(records[2:])

            async def the_first_are_archived() -> bool:
                return (await service.totals())["archived"] >= 2

            await eventually(the_first_are_archived)
            alarms = await service.metric('assay_archive_tampering_total{sign="spool"}')
            read = await service.read(f"/v1/audit/records/{records[0].record_id}")

        assert alarms == before + 1
        assert read.status_code == 502
        assert archived_lines(bucket) == bodies_of(records[1:])


class TestStoppedBeforeItsBodiesWereDropped:
    async def test_drops_them_when_it_starts_again_and_stores_nothing_twice(
        self, tmp_path: Path, users: RunningUserService, bucket: Bucket
    ) -> None:
        records = make_records(3)
        settings = log_settings(tmp_path, users, bucket)
        async with open_log_service(settings, users) as service:
            await service.hand_over(records)
            await service.all_archived(3)
        before = bucket.objects()
        engine = writing_engine(settings.database_url)
        with engine.begin() as connection:
            # the service may or may not have come to it
            connection.execute(of_every_tenant(delete(tables.bodies), "the test"))
            connection.execute(
                insert(tables.bodies),
                [{"record_id": record.record_id, "body": record.body.encode()} for record in records],
            )
            again = update(tables.objects).values(has_bodies=True)
            connection.execute(of_every_tenant(again, "the test"))
        engine.dispose()

        async with open_log_service(settings, users) as service:

            async def spool_is_empty() -> bool:
                return await service.metric("assay_archive_spooled_records") == 0

            await eventually(spool_is_empty)

        assert bucket.objects() == before


class TestWithMoto:
    async def test_archives_into_a_bucket_it_makes_and_never_writes_a_key_twice(
        self, tmp_path: Path, users: RunningUserService
    ) -> None:
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        await asyncio.to_thread(server.start)
        try:
            host, port = server.get_host_and_port()
            url = f"http://{host}:{port}"
            client = boto3.session.Session().client(
                "s3",
                endpoint_url=url,
                region_name="eu-central-1",
                aws_access_key_id="test",
                aws_secret_access_key="test",
            )
            records = make_records(8)
            settings = log_settings(
                tmp_path, users, Bucket(url, tmp_path), s3_region="eu-central-1", archive_object_records=4
            )
            async with open_log_service(settings, users) as service:
                await service.hand_over(records[:4])
                await service.all_archived(4)
                planted = gzip.compress(b'{"forged":true}\n')
                await asyncio.to_thread(client.put_object, Bucket=BUCKET, Key=SECOND_KEY, Body=planted)
                await service.hand_over(records[4:])
                await service.all_archived(8)
                one = await service.read(f"/v1/audit/records/{records[6].record_id}")
                listed = await asyncio.to_thread(client.list_objects_v2, Bucket=BUCKET)
                third = await asyncio.to_thread(
                    client.get_object, Bucket=BUCKET, Key=SECOND_KEY.replace("2.ndjson", "3.ndjson")
                )
                content = gzip.decompress(third["Body"].read())
                kept = await asyncio.to_thread(client.get_object, Bucket=BUCKET, Key=SECOND_KEY)
                kept_bytes = kept["Body"].read()
            client.close()
        finally:
            await asyncio.to_thread(server.stop)

        assert listed["KeyCount"] == 3
        assert kept_bytes == planted
        assert third["Metadata"]["content-sha256"] == sha256_hex(content)
        assert content.splitlines() == [record.body.encode() for record in records[4:]]
        assert one.content == records[6].body.encode()
