"""API keys that the operator gives in the settings: made at the first start, ended when the setting changes."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog
from pydantic import SecretStr
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

from common.canonical import sha256_hex
from common.contracts.access import OverQuota
from common.contracts.institutions import Institution
from common.contracts.tokens import API_KEY_SCOPES, Scope
from common.db import Database
from common.ids import new_id
from user_service.access_changes.noting import Subject, note_change
from user_service.api_keys import repository
from user_service.api_keys.service import ApiKeys, add_key
from user_service.api_keys.tables import ApiKeyRow, has_ended
from user_service.api_keys.telling import BY_SETTINGS, KeyChange, tell_admins
from user_service.api_keys.texts import NewKey
from user_service.derived_keys import keyed_digest
from user_service.events.recording import SYSTEM, Action, Event, record
from user_service.institutions import repository as institutions
from user_service.institutions.tables import InstitutionRow
from user_service.settings import UserSettings
from user_service.users.repository import emails_of_admins

SETTINGS = "settings:"
Changes = list[tuple[Subject, str]]
_log = structlog.get_logger()


@dataclass(frozen=True)
class ConfiguredKey:
    """A key with a text that somebody else chose."""

    name: str
    text: SecretStr
    scopes: Sequence[Scope]

    @property
    def made_by(self) -> str:
        """Return by what its rows are found again."""
        return SETTINGS + self.name

    @property
    def is_set(self) -> bool:
        """Whether the settings give it."""
        return bool(self.text.get_secret_value())


@dataclass(frozen=True)
class ConfiguredKeys:
    """Brings the database in line with the settings: what they name works, what they named before does not.

    A key that a person has revoked or replaced stays as it is.
    """

    database: Database
    api_keys: ApiKeys
    settings: UserSettings = field(repr=False)

    async def ensure(self, *, now_ms: int) -> None:
        """Make, restore, end or leave each key; two processes that start together come to the same."""
        try:
            await self._ensure(now_ms=now_ms)
        except (IntegrityError, OperationalError) as error:  # another process was first
            _log.info("configured_keys.tried_again", error=type(error).__name__)
            await self._ensure(now_ms=now_ms)

    async def _ensure(self, *, now_ms: int) -> None:
        wanted = {self._digest(key): key for key in _configured(self.settings) if key.is_set}
        async with self.database.sessions.begin() as session:
            makers = [key.made_by for key in _configured(self.settings)]
            # all of them before the first event, as whoever revokes one takes its row before the event's number
            found = await repository.hold_configured(session, makers, wanted, now_ms=now_ms)
            held = {row.digest: (row, owner) for row, owner in found}
            changes: Changes = []
            for row, owner in found:
                if row.digest not in wanted:
                    changes += await self._end(session, row, owner, now_ms=now_ms)
            for digest, key in wanted.items():
                if digest not in held:
                    changes += await self._make(session, key, now_ms=now_ms)
                else:
                    changes += await self._restore(session, key, *held[digest], now_ms=now_ms)
            for kind, subject_id in changes:  # after all events, as `note_change` asks
                await note_change(session, kind, subject_id)

    def _digest(self, key: ConfiguredKey) -> str:
        return keyed_digest(self.api_keys.hash_key, key.text.get_secret_value())

    async def _end(
        self, session: AsyncSession, row: ApiKeyRow, owner: InstitutionRow, *, now_ms: int
    ) -> Changes:
        if not await repository.expire_key(session, row, now_ms=now_ms):
            return []
        event = Event(Action.API_KEY_REVOKED, SYSTEM, "api_key", row.key_id, {"by": "settings"})
        await record(session, owner.as_contract(), event, now_ms=now_ms)
        await _tell(session, row, KeyChange.REVOKED, now_ms=now_ms)
        _log.info("configured_key.ended", name=row.name, key_id=row.key_id)
        return [(Subject.API_KEY, row.key_id)]

    async def _restore(
        self, session: AsyncSession, key: ConfiguredKey, row: ApiKeyRow, owner: InstitutionRow, *, now_ms: int
    ) -> Changes:
        """Let a key of the settings work again, or under its other name; one that a person has ended does not."""
        scopes = " ".join(scope.value for scope in key.scopes)
        if row.created_by.startswith(SETTINGS) and await repository.restore_key(
            session, row, name=key.name, scopes=scopes, made_by=key.made_by
        ):
            event = Event(Action.API_KEY_RESTORED, SYSTEM, "api_key", row.key_id, {"scopes": scopes.split()})
            await record(session, owner.as_contract(), event, now_ms=now_ms)
            await _tell(session, row, KeyChange.RESTORED, now_ms=now_ms)
            _log.info("configured_key.restored", name=key.name, key_id=row.key_id)
            return [(Subject.API_KEY, row.key_id)]
        if has_ended(row, now_ms=now_ms):
            _log.warning("configured_key.revoked", name=key.name, key_id=row.key_id)
        return []

    async def _make(self, session: AsyncSession, key: ConfiguredKey, *, now_ms: int) -> Changes:
        owner, changes = await self._institution(session, now_ms=now_ms)
        made = NewKey(new_id("key"), key.text.get_secret_value())
        row = self.api_keys.row(made, owner.institution_id, key.name, key.scopes)
        row.created_by, row.created_at_ms = key.made_by, now_ms
        await add_key(session, row, owner, actor=SYSTEM, now_ms=now_ms)
        await _tell(session, row, KeyChange.CREATED, now_ms=now_ms)
        _log.info(
            "configured_key.made", name=key.name, key_id=row.key_id, institution_id=owner.institution_id
        )
        return [*changes, (Subject.API_KEY, row.key_id)]

    async def _institution(self, session: AsyncSession, *, now_ms: int) -> tuple[Institution, Changes]:
        """Return the institution that the settings name: by its id, or one that is made for that name alone.

        Names are not unique, and anybody may register one: the keys must not end up with a stranger of that name.
        """
        named = self.settings.api_keys_institution
        own_id = f"ins_{sha256_hex(named.encode())[:26]}"
        for institution_id in (named, own_id):
            found = await institutions.find_institution(session, institution_id)
            if found is not None:
                return found.as_contract(), []
        row = InstitutionRow(
            institution_id=own_id,
            name=named,
            mode=self.settings.api_keys_institution_mode.value,
            base_currency=self.settings.api_keys_institution_currency,
            created_at_ms=now_ms,
            tier=self.settings.registration_tier.value,
            over_quota=OverQuota.ALLOW_AND_WARN.value,
        )
        await institutions.add_institution(session, row)
        event = Event(Action.INSTITUTION_REGISTERED, SYSTEM, "institution", own_id)
        await record(session, row.as_contract(), event, now_ms=now_ms)
        _log.info("institution.registered", institution_id=own_id, mode=row.mode)
        return row.as_contract(), [(Subject.INSTITUTION, own_id)]


async def _tell(session: AsyncSession, row: ApiKeyRow, change: KeyChange, *, now_ms: int) -> None:
    """Tell the institution's admins, if it has any: one that was made for these keys has none."""
    owner = await institutions.find_institution(session, row.institution_id)
    if owner is not None and await emails_of_admins(session, row.institution_id):
        await tell_admins(session, row, change, owner, by=BY_SETTINGS, now_ms=now_ms)


def _configured(settings: UserSettings) -> list[ConfiguredKey]:
    return [
        ConfiguredKey("frontend", settings.frontend_api_key, (Scope.SCORE_WRITE,)),
        ConfiguredKey("admin", settings.admin_api_key, API_KEY_SCOPES),
    ]
