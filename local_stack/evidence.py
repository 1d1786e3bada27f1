"""Reads what really arrived: rows in ai_service's database, objects in the bucket, mails in the mailbox."""

import gzip
from collections.abc import Iterator
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import TYPE_CHECKING

import boto3
import orjson
from botocore.config import Config
from botocore.session import Session as BotocoreSession
from sqlalchemy import text

from common.contracts.audit_records import RecordKind
from local_stack.accounts import Login
from local_stack.files import StackFiles
from local_stack.parts import ACCESS_KEY_ID, BUCKET, SECRET_ACCESS_KEY
from local_stack.reading import reading_engine
from local_stack.tally import Kept, alert_ids_in

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_SAVED = text("SELECT transaction_id, decision_id FROM decisions WHERE institution_id = :institution_id")
_DECISIONS = f"{RecordKind.DECISION.value}-"


class Evidence:
    """What is found for one sandbox institution. Objects and mails never change, so each is read once."""

    def __init__(
        self, files: StackFiles, login: Login, *, object_store_url: str, database_url: str = ""
    ) -> None:
        """Read ai_service's database at `database_url`; without one, the SQLite file of the stack."""
        self._files = files
        self._database_url = database_url or f"sqlite:///{files.database('ai_service')}"
        self._login = login
        self._store = _object_store(object_store_url)
        self._archived_by_key: dict[str, list[Kept]] = {}
        self._alerts_by_mail: dict[str, set[str]] = {}

    def close(self) -> None:
        """Close the connections to the object store."""
        self._store.close()

    def saved(self) -> list[Kept]:
        """Return the decisions in the database."""
        engine = reading_engine(self._database_url)
        try:
            with engine.connect() as connection:
                rows = connection.execute(_SAVED, {"institution_id": self._login.institution_id})
                return [Kept(row.transaction_id, row.decision_id) for row in rows]
        finally:
            engine.dispose()

    def archived(self) -> list[Kept]:
        """Return the decisions in the institution's objects; those of other kinds are passed over."""
        pages = self._store.get_paginator("list_objects_v2").paginate(
            Bucket=BUCKET, Prefix=f"audit/sandbox/{self._login.institution_id}/"
        )
        for key in [item["Key"] for page in pages for item in page.get("Contents", [])]:
            if not key.rpartition("/")[2].startswith(_DECISIONS):
                continue
            if key not in self._archived_by_key:
                body = self._store.get_object(Bucket=BUCKET, Key=key)["Body"].read()
                self._archived_by_key[key] = list(_records(body))
        return [kept for found in self._archived_by_key.values() for kept in found]

    def mails(self) -> list[set[str]]:
        """Return, for each mail to the institution's admin, the alert ids in its text."""
        for path in self._files.mails.glob("mail_*.eml"):
            if path.name not in self._alerts_by_mail:
                message = message_from_bytes(path.read_bytes(), policy=default)
                is_ours = self._login.email in str(message.get("X-Envelope-To", ""))
                self._alerts_by_mail[path.name] = _alerts(message) if is_ours else set()
        return list(self._alerts_by_mail.values())


def _records(body: bytes) -> Iterator[Kept]:
    for line in gzip.decompress(body).splitlines():
        decision = orjson.loads(line)["decision"]
        yield Kept(decision["transaction_id"], decision["decision_id"])


def _alerts(message: EmailMessage) -> set[str]:
    part = message.get_body(("plain",))
    return set() if part is None else alert_ids_in(str(part.get_content()))


def _object_store(url: str) -> "S3Client":
    # a profile that a person chose for AWS would be looked for here too
    nobodys = BotocoreSession(session_vars={"profile": (None, None, None, None)})
    return boto3.session.Session(botocore_session=nobodys).client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY_ID,
        aws_secret_access_key=SECRET_ACCESS_KEY,
        config=Config(s3={"addressing_style": "path"}, proxies={}),
    )
