"""record(): what was done, by whom and to whom, in the transaction that does it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from sqlalchemy.ext.asyncio import AsyncSession

from common.auth.principal import Principal
from common.canonical import canonical_bytes
from common.contracts.audit_records import RecordKind
from common.contracts.institutions import Institution
from common.ids import new_id
from common.logging import request_id
from user_service.events.tables import IdentityEventRow
from user_service.numbering import next_number
from user_service.outbox import AUDIT, tell_later
from user_service.times import to_time

SCHEMA_VERSION = 1
Details = Mapping[str, str | int | bool | list[str] | None]


class Action(StrEnum):
    """What can happen to institutions, people and keys."""

    INSTITUTION_REGISTERED = "institution.registered"
    INSTITUTION_CHANGED = "institution.changed"
    INSTITUTION_SUSPENDED = "institution.suspended"
    INSTITUTION_RESUMED = "institution.resumed"
    USER_INVITED = "user.invited"
    USER_JOINED = "user.joined"
    INVITATION_EXPIRED = "user.invitation_expired"
    USER_DISABLED = "user.disabled"
    USER_ENABLED = "user.enabled"
    USER_ROLE_CHANGED = "user.role_changed"
    USER_NAME_CHANGED = "user.name_changed"
    PASSWORD_CHANGED = "password.changed"  # noqa: S105 - what happened, no secret
    PASSWORD_RESET_ASKED = "password.reset_asked"  # noqa: S105
    PASSWORD_RESET = "password.reset"  # noqa: S105
    ACCOUNT_LOCKED = "account.locked"
    SECOND_FACTOR_ADDED = "second_factor.added"
    SECOND_FACTOR_REMOVED = "second_factor.removed"
    RECOVERY_CODE_USED = "recovery_code.used"
    SESSION_STARTED = "session.started"
    SESSION_ENDED = "session.ended"
    SESSION_REUSED = "session.ended_by_reuse"
    API_KEY_CREATED = "api_key.created"
    API_KEY_ROTATED = "api_key.rotated"
    API_KEY_REVOKED = "api_key.revoked"
    API_KEY_RESTORED = "api_key.restored"
    SIGNING_KEY_CREATED = "signing_key.created"
    SIGNING_KEY_ROTATED = "signing_key.rotated"
    SIGNING_KEY_RETIRED = "signing_key.retired"
    APPROVAL_ASKED = "approval.asked"
    APPROVAL_GIVEN = "approval.given"
    APPROVAL_REFUSED = "approval.refused"


@dataclass(frozen=True, slots=True)
class Approved:
    """The request by which something is done that needs a second person, and who agreed to it."""

    approval_id: str
    approved_by: str


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did it: a person, an API key, one of our services, or nobody who is known; `approved`, where that was needed."""

    kind: str
    actor_id: str | None = None
    approved: Approved | None = None


ANONYMOUS = Actor("anonymous")
SYSTEM = Actor("system")


def actor_of(caller: Principal) -> Actor:
    """Return `caller` as the one who does something."""
    return Actor(caller.use.value, caller.subject)


@dataclass(frozen=True)
class Event:
    """Something that happened. `details` hold ids, roles and the like: no secret, no address, no name of a person.

    `request_id` is that of the request that caused it, where it is another than the running one.
    """

    action: Action
    actor: Actor
    subject_kind: str
    subject_id: str
    details: Details = field(default_factory=dict)
    request_id: str = ""


async def record(session: AsyncSession, institution: Institution, event: Event, *, now_ms: int) -> str:
    """Write `event` and what will archive it, in the running transaction; return its id."""
    event_id = new_id("evt")
    sequence = await next_number(session, f"events:{institution.institution_id}")
    body = {
        "kind": RecordKind.IDENTITY.value,
        "schema_version": SCHEMA_VERSION,
        "institution": institution.model_dump(mode="json"),
        "event": {
            "event_id": event_id,
            "event_sequence": sequence,
            "created_at": to_time(now_ms).isoformat(),
            "action": event.action.value,
            "actor": {"kind": event.actor.kind, "id": event.actor.actor_id},
            "subject": {"kind": event.subject_kind, "id": event.subject_id},
            "details": {**event.details, **_consent(event.actor)},
            "request_id": event.request_id or request_id(),
        },
    }
    session.add(
        IdentityEventRow(
            event_id=event_id,
            institution_id=institution.institution_id,
            sequence=sequence,
            created_at_ms=now_ms,
            action=event.action.value,
            body=canonical_bytes(body),
        )
    )
    await session.flush()
    await tell_later(session, AUDIT, event_id, now_ms=now_ms)
    return event_id


def _consent(actor: Actor) -> Details:
    """Return both people of what needed two."""
    if actor.approved is None:
        return {}
    return {
        "approval_id": actor.approved.approval_id,
        "requested_by": actor.actor_id,
        "approved_by": actor.approved.approved_by,
    }
