"""A real log_service and an S3 server with objects on disk, for the tests of this service."""

import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
from localbucket import S3Handler
from pydantic import SecretStr

from common.app import create_app
from common.canonical import canonical_bytes, sha256_hex
from common.contracts.audit_records import AuditBatch, AuditRecord, RecordKind
from common.contracts.institutions import Institution, InstitutionMode
from common.contracts.tokens import Scope
from common.settings import Environment
from log_service.main import SERVICE
from log_service.settings import AddressingStyle, LogSettings
from tests.asgi import open_app
from tests.conftest import RunningUserService
from tests.waiting import eventually

BUCKET = "audit-test"
NEVER_S = 60.0  # an interval no test lives to see
AT_ONCE_S = 0.02
DAY = "2026-11-02"
BANK = Institution(institution_id="ins_bank", mode=InstitutionMode.SANDBOX, base_currency="EUR")
RIVAL = Institution(institution_id="ins_rival", mode=InstitutionMode.SANDBOX, base_currency="EUR")


@dataclass(frozen=True)
class Bucket:
    """An S3 server's address, and the folder its objects are in."""

    url: str
    folder: Path

    @property
    def root(self) -> Path:
        """Where the bucket's objects are."""
        return self.folder / BUCKET

    def objects(self) -> dict[str, bytes]:
        """Return every object by its key."""
        files = sorted(
            path for path in self.root.rglob("*") if path.is_file() and path.name.endswith(".ndjson.gz")
        )
        return {path.relative_to(self.root).as_posix(): path.read_bytes() for path in files}


@contextmanager
def s3_server(folder: Path) -> Iterator[Bucket]:
    """Serve `folder` as S3 from a thread."""
    handler = type("Handler", (S3Handler,), {"data_root": folder})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield Bucket(f"http://127.0.0.1:{server.server_address[1]}", folder)
        finally:
            server.shutdown()
            thread.join()


def log_settings(
    folder: Path,
    users: RunningUserService,
    bucket: Bucket,
    **changes: Any,  # noqa: ANN401 - any setting
) -> LogSettings:
    """Return settings for a log_service that lives in `folder`."""
    chosen = {
        "environment": Environment.TEST,
        "database_url": SecretStr(f"sqlite:///{folder}/log_service.db"),
        "user_service_url": users.url,
        "s3_endpoint_url": bucket.url,
        "s3_bucket": BUCKET,
        "s3_access_key_id": "test",
        "s3_secret_access_key": SecretStr("test"),
        "s3_addressing_style": AddressingStyle.PATH,
        "s3_create_bucket": True,
        "archive_interval_s": AT_ONCE_S,
    }
    return LogSettings(**{**chosen, **changes})


def make_body(
    record_id: str,
    sequence: int,
    *,
    kind: RecordKind,
    institution: Institution,
    created_at: datetime,
    note: str,
) -> str:
    """Make the body of a decision or an identity record, with a note in place of most of what it holds."""
    part = "decision" if kind is RecordKind.DECISION else "event"
    content = {
        "kind": kind.value,
        "institution": institution.model_dump(mode="json"),
        part: {
            f"{part}_id": record_id,
            f"{part}_sequence": sequence,
            "created_at": created_at.isoformat(),
            "note": note,
        },
    }
    return canonical_bytes(content).decode()


def make_record(
    sequence: int = 1,
    *,
    kind: RecordKind = RecordKind.DECISION,
    institution: Institution = BANK,
    created_at: datetime = datetime(2026, 11, 2, 12, 0, tzinfo=UTC),
    note: str = "geprüft",
    body: str | None = None,
    **changes: Any,  # noqa: ANN401 - any field
) -> AuditRecord:
    """Make a record whose digest fits its body, and whose body says what the envelope says."""
    prefix = "dec" if kind is RecordKind.DECISION else "evt"
    record_id = changes.pop("record_id", f"{prefix}_{institution.institution_id}_{sequence:06d}")
    text = body or make_body(
        record_id, sequence, kind=kind, institution=institution, created_at=created_at, note=note
    )
    return AuditRecord(
        **{
            "record_id": record_id,
            "kind": kind,
            "institution_id": institution.institution_id,
            "institution_mode": institution.mode,
            "sequence": sequence,
            "created_at": created_at,
            "request_id": f"req_{sequence}",
            "sha256": sha256_hex(text.encode()),
            "body": text,
            **changes,
        }
    )


def make_records(count: int, *, first: int = 1, **changes: Any) -> list[AuditRecord]:  # noqa: ANN401 - any field
    """Make records with consecutive sequences."""
    return [make_record(sequence, **changes) for sequence in range(first, first + count)]


@dataclass(frozen=True)
class RunningLogService:
    """A log_service that can be talked to as a service and as an auditor."""

    client: httpx.AsyncClient
    users: RunningUserService

    async def hand_over(
        self, records: Sequence[AuditRecord], *, writer: str = "ai_service"
    ) -> httpx.Response:
        """Post `records` as the service `writer`."""
        token = self.users.fake.service_token(Scope.AUDIT_WRITE, subject=writer)
        return await self.client.post(
            "/v1/internal/audit-records",
            content=AuditBatch(records=tuple(records)).model_dump_json(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )

    async def read(self, path: str, *, institution: Institution = BANK) -> httpx.Response:
        """Get `path` as an auditor of `institution`."""
        token = self.users.fake.user_token(institution=institution)
        return await self.client.get(path, headers={"Authorization": f"Bearer {token}"})

    async def totals(self, *, institution: Institution = BANK, day: str = DAY) -> dict[str, int]:
        """Return a day's totals."""
        totals: dict[str, int] = (await self.read(f"/v1/audit/days/{day}", institution=institution)).json()[
            "totals"
        ]
        return totals

    async def all_archived(self, count: int, *, institution: Institution = BANK, day: str = DAY) -> None:
        """Wait until `count` records of a day are archived, and no more wait."""
        wanted = {"records": count, "archived": count, "spooled": 0}

        async def done() -> bool:
            return await self.totals(institution=institution, day=day) == wanted

        await eventually(done)

    async def spool_is_empty(self) -> None:
        """Wait until nothing waits any more, which is a moment after it is archived."""

        async def done() -> bool:
            return await self.metric("assay_archive_spooled_records") == 0

        await eventually(done)

    async def metric(self, sample: str) -> float:
        """Return the value of one line of the metrics, 0 when it is not there."""
        lines = (await self.client.get("/metrics")).text.splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(sample + " ")), 0.0)


@asynccontextmanager
async def open_log_service(
    settings: LogSettings, users: RunningUserService
) -> AsyncIterator[RunningLogService]:
    """Run log_service in this process and wait until it is ready."""
    async with open_app(create_app(SERVICE, settings)) as client:

        async def is_ready() -> bool:
            return (await client.get("/ready")).status_code == 200

        await eventually(is_ready)
        yield RunningLogService(client, users)
