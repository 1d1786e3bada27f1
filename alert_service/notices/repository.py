"""Notices in the database."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select, update

from alert_service.notices.tables import notices
from alert_service.notifications.mail import Mail
from alert_service.notifications.repository import add_mails
from common.canonical import canonical_bytes, sha256_hex
from common.contracts.notices import Notice
from common.db import insert_ignoring_repeats
from common.errors import PlatformError, UnavailableError
from common.failpoints import failpoint
from common.tenancy import of_every_tenant, of_tenant

_ACCEPTING = "a batch of notices is of many institutions; each is compared with all of its own content"


class NoticeConflictError(PlatformError):
    """A notice id came back with another content."""

    status_code = 409
    type = "notice-conflict"
    title = "Another notice with this id was accepted before"

    def __init__(self, notice_id: str) -> None:
        super().__init__()
        self.notice_id = notice_id


@dataclass(frozen=True, slots=True)
class Accepted:
    """Which notices of each batch were new; a batch with a conflict was refused as a whole and has its error."""

    results: Sequence[Sequence[Notice] | NoticeConflictError]

    @property
    def fresh(self) -> list[Notice]:
        """Return every notice that was new."""
        return [
            notice
            for result in self.results
            if not isinstance(result, NoticeConflictError)
            for notice in result
        ]


def accept(
    connection: Connection, batches: Sequence[Sequence[Notice]], *, now_ms: int, domain: str
) -> Accepted:
    """Write the notices that are new, each with the mail that tells it; repeats change nothing."""
    known = _known(connection, [notice.notice_id for batch in batches for notice in batch])
    results: list[Sequence[Notice] | NoticeConflictError] = []
    for batch in batches:
        try:
            new = _new(batch, known)
        except NoticeConflictError as error:
            results.append(error)
            continue
        known.update((notice.notice_id, digest_of(notice)) for notice in new)
        results.append(new)
    accepted = Accepted(results)
    _write(connection, accepted.fresh, now_ms=now_ms, domain=domain)
    failpoint("notices.before_commit")
    return accepted


def digest_of(notice: Notice) -> str:
    """Return what decides whether two notices are the same."""
    return sha256_hex(canonical_bytes(notice.model_dump(mode="json")))


def find_notice(connection: Connection, mail: Mail) -> Notice:
    """Return the notice that a mail tells, as it was accepted; without its secret once that was forgotten."""
    query = select(notices.c.body, notices.c.secret).where(notices.c.notice_id == mail.notice_id)
    row = connection.execute(of_tenant(mail.institution_id, query)).one()
    return Notice.model_validate_json(row.body).model_copy(update={"secret": row.secret})


def forget_secret(connection: Connection, mail: Mail) -> None:
    """Forget the secret of the notice that a mail tells, if it tells one."""
    if mail.notice_id is not None:
        forgetting = update(notices).where(notices.c.notice_id == mail.notice_id).values(secret=None)
        connection.execute(of_tenant(mail.institution_id, forgetting))


def _known(connection: Connection, notice_ids: Sequence[str]) -> dict[str, str]:
    """Return the digests, by id, of those that were accepted before."""
    query = select(notices.c.notice_id, notices.c.sha256).where(notices.c.notice_id.in_(notice_ids))
    rows = connection.execute(of_every_tenant(query, _ACCEPTING))
    return {row.notice_id: row.sha256 for row in rows}


def _new(batch: Sequence[Notice], known: Mapping[str, str]) -> list[Notice]:
    new: dict[str, Notice] = {}
    for notice in batch:
        digest = digest_of(notice)
        before = known.get(notice.notice_id)
        if before is None:
            before = digest_of(new.setdefault(notice.notice_id, notice))
        if before != digest:
            raise NoticeConflictError(notice.notice_id)
    return list(new.values())


def _write(connection: Connection, fresh: Sequence[Notice], *, now_ms: int, domain: str) -> None:
    if not fresh:
        return
    ordered = sorted(fresh, key=lambda notice: notice.notice_id)
    written = insert_ignoring_repeats(connection, notices).returning(notices.c.notice_id)
    rows = [_row(notice, now_ms=now_ms) for notice in ordered]
    if len(connection.scalars(written, rows).all()) != len(rows):
        raise UnavailableError("Another process is accepting one of these notices.")
    add_mails(
        connection,
        [(notice.institution_id, notice.notice_id) for notice in ordered],
        now_ms=now_ms,
        domain=domain,
    )


def _row(notice: Notice, *, now_ms: int) -> dict[str, object]:
    expires = notice.expires_at
    return {
        "notice_id": notice.notice_id,
        "institution_id": notice.institution_id,
        "kind": notice.kind.value,
        "accepted_at_ms": now_ms,
        "expires_at_ms": None if expires is None else round(expires.timestamp() * 1000),
        "sha256": digest_of(notice),
        "body": notice.model_copy(update={"secret": None}).model_dump_json().encode(),
        "secret": notice.secret,
    }
