"""API keys that the operator gives in the settings: made at the first start, replaced when the setting changes."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog
from pydantic import SecretStr
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from common.canonical import sha256_hex
from common.contracts.access import OverQuota
from common.contracts.institutions import Institution
from common.contracts.tokens import API_KEY_SCOPES, Scope
from common.db import Database
from common.ids import new_id
from user_service.access.repository import Subject, note_change
from user_service.api_keys import repository
from user_service.api_keys.service import ApiKeys, end_key
from user_service.api_keys.texts import NewKey
from user_service.derived_keys import keyed_digest
from user_service.events.recording import SYSTEM, Action, Event, record
from user_service.institutions import repository as institutions
from user_service.institutions.tables import InstitutionRow
from user_service.settings import UserSettings

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
        return f"settings:{self.name}"


@dataclass(frozen=True)
class ConfiguredKeys:
    """Brings the database in line with the settings."""

    database: Database
    api_keys: ApiKeys
    settings: UserSettings = field(repr=False)

    async def ensure(self, *, now_ms: int) -> None:
        """Make, replace or leave each key; two processes that start together come to the same."""
        for key in _asked_for(self.settings):
            try:
                await self._ensure(key, now_ms=now_ms)
            except IntegrityError:  # the other process was first
                await self._ensure(key, now_ms=now_ms)

    async def _ensure(self, key: ConfiguredKey, *, now_ms: int) -> None:
        async with self.database.sessions.begin() as session:
            digest = keyed_digest(self.api_keys.hash_key, key.text.get_secret_value())
            former = [
                row
                for row in await repository.made_by(session, key.made_by, now_ms=now_ms)
                if row.digest != digest
            ]
            found = await repository.find_by_digest(session, digest)
            if found is not None and found[0].revoked_at_ms is not None:
                _log.warning("configured_key.revoked", name=key.name, key_id=found[0].key_id)
            elif found is None:
                await self._make(session, key, now_ms=now_ms)
            for row in former:
                owner = await institutions.find_institution(session, row.institution_id)
                assert owner is not None  # noqa: S101 - a foreign key
                await end_key(session, row, owner.as_contract(), actor=SYSTEM, now_ms=now_ms)
                _log.info("configured_key.ended", name=key.name, key_id=row.key_id)

    async def _make(self, session: AsyncSession, key: ConfiguredKey, *, now_ms: int) -> None:
        owner = await self._institution(session, now_ms=now_ms)
        made = NewKey(new_id("key"), key.text.get_secret_value())
        row = self.api_keys.row(made, owner.institution_id, key.name, key.scopes)
        row.created_by, row.created_at_ms = key.made_by, now_ms
        await self.api_keys.store(session, row, owner, actor=SYSTEM, now_ms=now_ms)
        _log.info(
            "configured_key.made", name=key.name, key_id=row.key_id, institution_id=owner.institution_id
        )

    async def _institution(self, session: AsyncSession, *, now_ms: int) -> Institution:
        """Return the institution that the settings name: by its id, or one that is made for that name alone.

        Names are not unique, and anybody may register one: the keys must not end up with a stranger of that name.
        """
        named = self.settings.api_keys_institution
        own_id = f"ins_{sha256_hex(named.encode())[:26]}"
        for institution_id in (named, own_id):
            found = await institutions.find_institution(session, institution_id)
            if found is not None:
                return found.as_contract()
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
        await note_change(session, Subject.INSTITUTION, own_id)
        _log.info("institution.registered", institution_id=own_id, mode=row.mode)
        return row.as_contract()


def _asked_for(settings: UserSettings) -> list[ConfiguredKey]:
    keys = [
        ConfiguredKey("frontend", settings.frontend_api_key, (Scope.SCORE_WRITE,)),
        ConfiguredKey("admin", settings.admin_api_key, API_KEY_SCOPES),
    ]
    return [key for key in keys if key.text.get_secret_value()]
