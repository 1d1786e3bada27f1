"""Rotates the key that signs tokens, on the machine itself: `python -m user_service.rotate_signing_key`."""

from typing import Annotated

import typer

from common.clock import epoch_ms
from common.db import Database
from user_service import machine
from user_service.events.recording import SYSTEM
from user_service.settings import UserSettings
from user_service.signing_keys import repository
from user_service.signing_keys.store import KeyStore
from user_service.signing_keys.tables import SigningKeyRow
from user_service.times import to_time

_GENTLE = """\
New key {new}: published now, signs from {signs_from} on, when every service knows it.
Old key {old}: verifies tokens until {retired_at}. Nobody is logged out.
"""
_AT_ONCE = """\
New key {new} signs now. Old keys are worth nothing: every access token, of people and of services, dies.
Within seconds user_service uses the new key; the other services fetch it within a minute and get new tokens by
themselves. People and API clients refresh theirs: sessions and API keys go on.
"""


def main(
    *,
    now: Annotated[
        bool, typer.Option("--now", help="for a stolen key: no overlap, every access token dies")
    ] = False,
) -> None:
    """Make a new signing key and say what happens when."""

    async def command(settings: UserSettings, database: Database) -> tuple[SigningKeyRow, SigningKeyRow]:
        store = KeyStore(database, settings.signing_key_passphrase.get_secret_value())
        now_ms = epoch_ms()
        await store.open(now_ms=now_ms)
        async with database.sessions.begin() as session:
            row = await store.rotate(session, actor=SYSTEM, now_ms=now_ms, at_once=now)
        async with database.sessions() as session:
            _, replaced = await repository.newest(session, limit=2)
        return row, replaced

    row, old = machine.run(command)
    typer.echo(
        (_AT_ONCE if now else _GENTLE).format(
            new=row.kid,
            old=old.kid,
            signs_from=_text(row.signs_from_ms),
            retired_at=_text(old.retired_at_ms or 0),
        ),
        nl=False,
    )


def _text(milliseconds: int) -> str:
    return to_time(milliseconds).isoformat(timespec="seconds")


if __name__ == "__main__":
    typer.run(main)
