"""What both institutions have in user_service's database."""

from sqlalchemy.ext.asyncio import AsyncSession

from common.approvals import Approval
from tests.security.tenancy.worlds import BOTH
from user_service.api_keys.tables import ApiKeyRow
from user_service.approvals import repository as approvals
from user_service.institutions.tables import InstitutionRow
from user_service.mailed_tokens.tables import MailedTokenRow
from user_service.mailed_tokens.texts import Purpose
from user_service.second_factors.tables import RecoveryCodeRow
from user_service.sessions.tables import RefreshTokenRow, SessionRow
from user_service.users.tables import UserRow

LATER_MS = 10**13
RESET = Purpose.PASSWORD_RESET


async def fill(session: AsyncSession) -> None:
    for institution in BOTH:
        name = institution.institution_id
        session.add(
            InstitutionRow(
                institution_id=name,
                name=f"Bank {name}",
                mode=institution.mode.value,
                base_currency="EUR",
                created_at_ms=1,
                tier="starter",
                over_quota="allow_and_warn",
            )
        )
        await session.flush()
        session.add_all([a_user(f"usr_{name}", of=name), a_user(f"new_{name}", of=name, joined=False)])
        await session.flush()
        session.add(a_session(f"ses_{name}", user_id=f"usr_{name}"))
        session.add(RecoveryCodeRow(digest=f"code_{name}", user_id=f"usr_{name}"))
        session.add(_mailed_token(name))
        session.add(a_key(f"key_{name}", of=name))
        await session.flush()
        session.add(
            RefreshTokenRow(
                digest=name,
                session_id=f"ses_{name}",
                access_token_id=f"tok_{name}",
                created_at_ms=1,
                expires_at_ms=2,
            )
        )
        await approvals.add(session, an_approval(name, asked_by=name))


def a_user(user_id: str, *, of: str, joined: bool = True, role: str = "admin") -> UserRow:
    """Return somebody whose second factor was begun; whoever has not joined is a viewer."""
    return UserRow(
        user_id=user_id,
        institution_id=of,
        email=f"{user_id}@bank.example",
        email_key=f"{user_id}@bank.example",
        login_key=f"{user_id}@bank.example" if joined else user_id,
        full_name="A person",
        role=role if joined else "viewer",
        password_hash="hash" if joined else "",
        created_at_ms=1,
        totp_secret="encrypted",
    )


def a_session(session_id: str, *, user_id: str) -> SessionRow:
    return SessionRow(
        session_id=session_id,
        user_id=user_id,
        created_at_ms=1,
        expires_at_ms=2,
        last_used_at_ms=1,
        access_expires_at_ms=2,
        ip_address="",
        user_agent="",
    )


def a_key(key_id: str, *, of: str) -> ApiKeyRow:
    return ApiKeyRow(
        key_id=key_id,
        institution_id=of,
        name="a program",
        prefix="prefix",
        digest=key_id,
        scopes="decisions:read",
        created_by="settings:frontend",
        created_at_ms=1,
    )


def an_approval(institution_id: str, *, asked_by: str) -> Approval:
    """Return the request that only `asked_by` has made, as one of `institution_id`."""
    return Approval(
        approval_id=f"apr_{asked_by}",
        institution_id=institution_id,
        action="grant_admin",
        subject_id="",
        details={"asked_by": asked_by},
        requested_by=f"usr_{asked_by}",
        requested_at_ms=1,
        expires_at_ms=LATER_MS,
    )


def _mailed_token(name: str) -> MailedTokenRow:
    return MailedTokenRow(
        token_id=f"mtk_{name}",
        user_id=f"usr_{name}",
        purpose=RESET.value,
        created_at_ms=1,
        expires_at_ms=LATER_MS,
    )


def an_invitation(name: str) -> MailedTokenRow:
    """Return what whoever has not joined in an institution could join with."""
    return MailedTokenRow(
        token_id=f"inv_{name}",
        user_id=f"new_{name}",
        purpose=Purpose.INVITATION.value,
        created_at_ms=1,
        expires_at_ms=LATER_MS,
    )
