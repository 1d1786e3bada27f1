"""What log_service is told."""

from enum import StrEnum
from typing import ClassVar

from pydantic import Field, SecretStr

from common.db_settings import ReplicatedSettings


class AddressingStyle(StrEnum):
    """Where a bucket's name goes: into the path, into the host name, or as boto3 thinks best."""

    AUTO = "auto"
    PATH = "path"
    VIRTUAL = "virtual"


class LogSettings(ReplicatedSettings):
    """Settings of log_service."""

    secrets_of_others: ClassVar[frozenset[str]] = frozenset({"s3_secret_access_key"})

    port: int = Field(8004, ge=0, le=65535, description="port to listen on")
    max_body_bytes: int = Field(
        4_194_304, ge=1024, description="longest request body that is read; batches of records are large"
    )
    database_url: SecretStr = Field(
        SecretStr("sqlite:///var/log_service.db"),
        description="where records wait for the archive and are remembered; one process owns it",
    )
    s3_endpoint_url: str = Field("", description="address of the S3 server; empty means AWS")
    s3_bucket: str = Field("assay-archive", min_length=3, max_length=63, description="bucket of the archive")
    s3_region: str = Field("us-east-1", description="region of the bucket")
    s3_access_key_id: str = Field("", description="access key; empty means boto3's own chain of sources")
    s3_secret_access_key: SecretStr = Field(SecretStr(""), description="the secret that belongs to the key")
    s3_addressing_style: AddressingStyle = Field(
        AddressingStyle.AUTO, description="auto, path or virtual; most servers that are not AWS need path"
    )
    s3_create_bucket: bool = Field(False, description="create the bucket when it is missing; for development")
    s3_put_concurrency: int = Field(4, ge=1, le=64, description="objects that are stored at the same time")
    archive_interval_s: float = Field(
        1.0, gt=0, le=60, description="seconds after which waiting records become an object"
    )
    archive_object_records: int = Field(1000, ge=1, le=10_000, description="records that make an object full")
    spool_max_records: int = Field(
        5_000_000, ge=1, description="records that may wait for the archive; more are refused with 503"
    )
    spool_max_bytes: int = Field(
        21_474_836_480, ge=1, description="bytes of records that may wait; more are refused with 503"
    )

    def why_one_process(self) -> str | None:
        """The spool has one owner (`archive/ownership.py`)."""
        return "one log_service process owns the spool; WORKERS=1"
