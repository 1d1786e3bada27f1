"""The archive itself: one boto3 client, used from threads so that S3 never holds up the event loop."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, closing
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

import boto3
import structlog
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from common.errors import UnavailableError
from log_service.archive.metrics import REACHABLE
from log_service.archive.threads import in_daemon_thread
from log_service.settings import LogSettings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONNECT_S = 3
READ_S = 10
ATTEMPTS = 2
READERS = 4  # calls for people who read; those that store have connections of their own
ResultT = TypeVar("ResultT")
_log = structlog.get_logger()


class ArchiveUnavailableError(UnavailableError):
    """The archive did not do what it was asked, for now."""

    title = "The archive is away; try again shortly"


class ObjectMissingError(Exception):
    """There is no object under this key."""


class OddAnswerError(Exception):
    """Something answered that all is well, and it was not an S3 server."""


class PutOutcome(StrEnum):
    """Whether the object was written, or its key was taken."""

    WRITTEN = "written"
    TAKEN = "taken"


class S3Store:
    """Writes objects that must not exist yet, and reads them."""

    def __init__(self, client: "S3Client", *, bucket: str, region: str, create_bucket: bool) -> None:
        self._client = client
        self._bucket = bucket
        self._region = region
        self._create_bucket = create_bucket
        self._reachable: bool | None = None

    async def put(self, key: str, data: bytes, *, facts: Mapping[str, str]) -> PutOutcome:
        """Write an object unless its key is taken; `facts` become its metadata.

        Raises `ArchiveUnavailableError`, after which the object may or may not be there.
        """
        return await self._run(lambda: self._put(key, data, facts))

    async def fetch(self, key: str, *, max_bytes: int) -> bytes:
        """Return an object's bytes, cut off behind `max_bytes` + 1.

        Raises `ObjectMissingError` and `ArchiveUnavailableError`.
        """
        return await self._run(lambda: self._fetch(key, max_bytes))

    async def keys(self, prefix: str) -> list[str]:
        """Return the key of every object under `prefix`; none where there is no bucket. Raises `ArchiveUnavailableError`."""
        return await self._run(lambda: self._keys(prefix))

    async def probe(self) -> None:
        """Ask whether the bucket answers, create it if that is wanted; the finding goes to log and metric."""
        try:
            await self._run(self._probe)
        except ArchiveUnavailableError:
            return

    def close(self) -> None:
        """Let go of the connections; a call that is under way ends by its own timeout."""
        self._client.close()

    async def _run(self, call: Callable[[], ResultT]) -> ResultT:
        try:
            result = await in_daemon_thread(call)
        except (ClientError, BotoCoreError, ResponseParserError, OddAnswerError, OSError) as error:
            reason = _reason(error)
            self._note(reachable=False, reason=reason)
            raise ArchiveUnavailableError(reason) from error
        self._note(reachable=True)
        return result

    def _put(self, key: str, data: bytes, facts: Mapping[str, str]) -> PutOutcome:
        try:
            self._put_once(key, data, facts)
        except ClientError as error:
            if _status(error) == 412:
                return PutOutcome.TAKEN
            if not (_code(error) == "NoSuchBucket" and self._create_bucket):
                raise
            self._make_bucket()
            self._put_once(key, data, facts)
        return PutOutcome.WRITTEN

    def _put_once(self, key: str, data: bytes, facts: Mapping[str, str]) -> None:
        answer = self._client.put_object(
            Bucket=self._bucket,
            Key=key,
            Body=data,
            IfNoneMatch="*",
            ContentType="application/gzip",
            Metadata=facts,
        )
        _check(answer)

    def _fetch(self, key: str, max_bytes: int) -> bytes:
        try:
            response = self._client.get_object(Bucket=self._bucket, Key=key)
        except ClientError as error:
            if _code(error) == "NoSuchKey":
                raise ObjectMissingError from error
            raise
        with closing(response["Body"]) as body:
            _check(response)
            return body.read(max_bytes + 1)

    def _keys(self, prefix: str) -> list[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        try:
            return [item["Key"] for page in pages for item in page.get("Contents", [])]
        except ClientError as error:
            if _code(error) != "NoSuchBucket":
                raise
            return []

    def _probe(self) -> None:
        try:
            self._client.head_bucket(Bucket=self._bucket)
        except ClientError as error:
            if not (_status(error) == 404 and self._create_bucket):
                raise
            self._make_bucket()

    def _make_bucket(self) -> None:
        place: Any = (
            {}
            if self._region == "us-east-1"  # the one region that must not be named here
            else {"CreateBucketConfiguration": {"LocationConstraint": self._region}}
        )
        try:
            self._client.create_bucket(Bucket=self._bucket, **place)
        except ClientError as error:
            if _code(error) != "BucketAlreadyOwnedByYou":
                raise
        _log.info("archive.bucket_created", bucket=self._bucket)

    def _note(self, *, reachable: bool, reason: str = "") -> None:
        REACHABLE.set(reachable)
        if reachable is self._reachable:
            return
        self._reachable = reachable
        if reachable:
            _log.info("archive.reachable", bucket=self._bucket)
        else:
            _log.error("archive.unreachable", bucket=self._bucket, reason=reason)


@asynccontextmanager
async def open_s3_store(settings: LogSettings) -> AsyncIterator[S3Store]:
    """Make the one client of this process; it needs no connection yet."""
    store = S3Store(
        await asyncio.to_thread(_client, settings, connections=settings.s3_put_concurrency + READERS),
        bucket=settings.s3_bucket,
        region=settings.s3_region,
        create_bucket=settings.s3_create_bucket,
    )
    try:
        yield store
    finally:
        store.close()


def _client(settings: LogSettings, *, connections: int) -> "S3Client":
    return boto3.session.Session().client(
        "s3",
        endpoint_url=settings.s3_endpoint_url or None,
        region_name=settings.s3_region,
        aws_access_key_id=settings.s3_access_key_id or None,
        aws_secret_access_key=settings.s3_secret_access_key.get_secret_value() or None,
        config=Config(
            connect_timeout=CONNECT_S,
            read_timeout=READ_S,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            max_pool_connections=connections,
            s3={"addressing_style": settings.s3_addressing_style.value},
        ),
    )


def _check(answer: Mapping[str, Any]) -> None:
    """Refuse the 200 of something that is no S3 server: records are dropped here once they are there."""
    if not answer.get("ETag"):
        raise OddAnswerError


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _reason(error: Exception) -> str:
    """Name the failure by kind; messages may hold addresses and keys."""
    return f"{_status(error)} {_code(error)}" if isinstance(error, ClientError) else type(error).__name__
