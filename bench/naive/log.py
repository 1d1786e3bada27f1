"""The usual log service: every transaction becomes one object in S3, by boto3."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import boto3
import orjson
from botocore.config import Config
from fastapi import Body, FastAPI, Request

from bench.naive.settings import LogSettings


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the client that all requests share."""
    settings = LogSettings()
    app.state.bucket = settings.s3_bucket
    app.state.s3 = boto3.client(
        "s3",
        endpoint_url=settings.s3_endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=settings.s3_access_key_id,
        aws_secret_access_key=settings.s3_secret_access_key.get_secret_value(),
        config=Config(s3={"addressing_style": "path"}),
    )
    app.state.s3.create_bucket(Bucket=settings.s3_bucket)
    yield


app = FastAPI(lifespan=lifespan)


@app.post("/records", status_code=202)
def keep(record: Annotated[dict[str, Any], Body()], request: Request) -> dict[str, str]:
    """Put one record into the bucket; boto3 blocks, so this runs in FastAPI's thread pool."""
    key = f"decisions/{record['decision_id']}.json"
    request.app.state.s3.put_object(Bucket=request.app.state.bucket, Key=key, Body=orjson.dumps(record))
    return {"key": key}
