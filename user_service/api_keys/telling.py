"""tell_admins(): a mail to those who run an institution about one of its API keys; never with the key itself."""

from collections.abc import Mapping
from enum import StrEnum

from sqlalchemy.ext.asyncio import AsyncSession

from common.contracts.notices import NoticeKind
from user_service.api_keys.tables import ApiKeyRow
from user_service.institutions.tables import InstitutionRow
from user_service.notices.queue import Letter, about_institution, as_fact, queue_bounded
from user_service.users.repository import emails_of_admins

BY_SETTINGS = "The settings of the platform"


class KeyChange(StrEnum):
    """What happened to a key, in words that a mail can show."""

    CREATED = "created"
    ROTATED = "rotated"
    REVOKED = "revoked"
    RESTORED = "restored"


async def tell_admins(
    session: AsyncSession,
    key: ApiKeyRow,
    change: KeyChange,
    institution: InstitutionRow,
    *,
    by: str,
    now_ms: int,
    more: Mapping[str, str] | None = None,
) -> None:
    """Ask for the mail, in the running transaction."""
    facts = {
        **about_institution(institution),
        "change": change.value,
        "key_name": key.name,
        "key_prefix": key.prefix,
        "key_id": key.key_id,
        "scopes": as_fact(", ".join(key.scopes.split())),
        "by": by,
        **(more or {}),
    }
    # named here: alert_service knows its admins only as of a minute ago
    recipients = await emails_of_admins(session, key.institution_id)
    letter = Letter(NoticeKind.API_KEY, key.institution_id, recipients=recipients, facts=facts)
    await queue_bounded(session, letter, whom=key.institution_id, now_ms=now_ms)
