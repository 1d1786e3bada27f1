"""Mails about a change of somebody's role or state: to them, and to the others who run the institution."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from common.contracts.notices import MAX_RECIPIENTS, NoticeKind
from common.contracts.roles import Role
from user_service.api_keys.tables import ApiKeyRow
from user_service.notices.queue import Letter, about_institution, as_fact, as_person, queue_bounded
from user_service.users.accounts_repository import Account
from user_service.users.repository import emails_of_admins

MAX_KEYS = 20
BY_MACHINE = "A command on the machine of the platform"


async def tell_member(
    session: AsyncSession, account: Account, role_before: Role, *, by: str, now_ms: int
) -> None:
    """Tell somebody their new role, if they have joined and are not disabled: nobody else is told anything."""
    user = account.user
    if not user.password_hash or user.disabled_at_ms is not None:
        return
    letter = Letter(
        NoticeKind.ROLE_CHANGED,
        user.institution_id,
        recipients=(user.email,),
        facts={
            **about_institution(account.institution),
            "role": user.role,
            "role_before": role_before.value,
            "by": by,
        },
    )
    await queue_bounded(session, letter, whom=user.user_id, now_ms=now_ms)


async def tell_admins(
    session: AsyncSession,
    account: Account,
    said: Sequence[str],
    keys: Sequence[ApiKeyRow],
    *,
    by: str,
    now_ms: int,
) -> None:
    """Tell the others who run the institution what was done to somebody, with the API keys they leave behind."""
    user = account.user
    others = [email for email in await emails_of_admins(session, user.institution_id) if email != user.email]
    if not others:
        return
    facts = {
        **about_institution(account.institution),
        "member": as_person(user),
        "change": " and ".join(said) or "relieved of their API keys",
        "by": by,
        **_about_keys(keys),
    }
    letter = Letter(
        NoticeKind.MEMBER_CHANGED, user.institution_id, recipients=others[:MAX_RECIPIENTS], facts=facts
    )
    await queue_bounded(session, letter, whom=user.institution_id, now_ms=now_ms)


def _about_keys(keys: Sequence[ApiKeyRow]) -> dict[str, str]:
    """Return how many keys there are and what became of them, and the first of them by name."""
    if not keys:
        return {}
    revoked = keys[0].revoked_at_ms is not None
    facts = {"api_keys": f"{len(keys)} {'revoked' if revoked else 'still working'}"}
    for number, key in enumerate(keys[:MAX_KEYS], start=1):
        facts[f"key_{number}"] = as_fact(f"{key.prefix}... ({key.key_id}): {key.name}")
    if len(keys) > MAX_KEYS:
        facts["further_keys"] = f"{len(keys) - MAX_KEYS}, see GET /v1/api-keys"
    return facts
