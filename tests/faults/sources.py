"""Where evidence is looked for."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.session import Session as BotocoreSession

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True)
class Sources:
    """Where to look; what is empty is not looked at."""

    database_url: str
    s3_endpoint_url: str = ""
    s3_bucket: str = ""
    s3_access_key_id: str = "local-stack"
    s3_secret_access_key: str = "local-stack"
    mailbox: Path | None = None
    alert_database_url: str = ""
    log_database_url: str = ""
    user_database_url: str = ""


def objects(client: "S3Client", bucket: str, institution_id: str) -> Iterator[tuple[str, bytes]]:
    """Return each object of an institution, of all where none is named, with its key."""
    for mode in ("live", "sandbox"):
        prefix = f"audit/{mode}/" + (f"{institution_id}/" if institution_id else "")
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for item in page.get("Contents", []):
                yield item["Key"], client.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()


def open_s3(sources: Sources) -> "S3Client":
    """Return a client for the S3 server of `sources`."""
    # a profile that a person chose for AWS would be looked for here too
    nobodys = BotocoreSession(session_vars={"profile": (None, None, None, None)})
    return boto3.session.Session(botocore_session=nobodys).client(
        "s3",
        endpoint_url=sources.s3_endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=sources.s3_access_key_id,
        aws_secret_access_key=sources.s3_secret_access_key,
        config=Config(s3={"addressing_style": "path"}, proxies={}),
    )
