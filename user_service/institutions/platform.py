"""The platform's own institution: its operators belong to it, and no tenant does."""

from sqlalchemy.ext.asyncio import AsyncSession

from common.contracts.access import OverQuota, Tier
from common.contracts.institutions import Institution, InstitutionMode
from user_service.access_changes.noting import Subject, note_change
from user_service.events.recording import SYSTEM, Action, Event, record
from user_service.institutions import repository
from user_service.institutions.tables import PLATFORM_INSTITUTION_ID

PLATFORM = Institution(institution_id=PLATFORM_INSTITUTION_ID, mode=InstitutionMode.LIVE, base_currency="EUR")
NAME = "Platform"


async def make_platform(session: AsyncSession, *, now_ms: int) -> None:
    """Store the platform's institution, unless it is there; of processes that start together one does."""
    if await repository.add_platform(
        session,
        institution_id=PLATFORM_INSTITUTION_ID,
        name=NAME,
        mode=PLATFORM.mode.value,
        base_currency=PLATFORM.base_currency,
        created_at_ms=now_ms,
        tier=Tier.ENTERPRISE.value,
        over_quota=OverQuota.ALLOW_AND_WARN.value,
    ):
        event = Event(Action.INSTITUTION_REGISTERED, SYSTEM, "institution", PLATFORM_INSTITUTION_ID)
        await record(session, PLATFORM, event, now_ms=now_ms)
        await note_change(session, Subject.INSTITUTION, PLATFORM_INSTITUTION_ID)
