"""Invitations that nobody accepted in time: whoever was invited is removed again."""

from sqlalchemy.ext.asyncio import AsyncSession

from user_service.events.recording import SYSTEM, Action, Event, record
from user_service.institutions.repository import find_institution, hold_institution
from user_service.members import repository


async def remove_expired(session: AsyncSession, user_id: str, *, institution_id: str, now_ms: int) -> bool:
    """Remove somebody whose invitation has expired; False when they have joined or were invited again meanwhile."""
    await hold_institution(session, institution_id)  # nobody invites them again meanwhile
    institution = await find_institution(session, institution_id)
    if institution is None or await repository.is_still_invited(
        session, user_id, institution_id=institution_id, now_ms=now_ms
    ):
        return False
    if not await repository.remove_invited(session, user_id, institution_id=institution_id):
        return False
    expired = Event(Action.INVITATION_EXPIRED, SYSTEM, "user", user_id)
    await record(session, institution.as_contract(), expired, now_ms=now_ms)
    return True
