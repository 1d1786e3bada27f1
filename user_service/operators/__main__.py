"""Operators and lost admins, on the machine itself: `python -m user_service.operators --help`.

It works on the database of user_service with the settings of user_service (environment, SETTINGS_FILE), whether the
service runs or not. Whoever may read those settings may do anything anyway; everything here is recorded as done by the
system.
"""

import asyncio
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from common.clock import epoch_ms
from common.db import Database
from user_service import machine
from user_service.derived_keys import derive_keys
from user_service.institutions.tables import PLATFORM_INSTITUTION_ID
from user_service.mailed_tokens.texts import token_text
from user_service.names import Name
from user_service.operators import repository
from user_service.operators.appointing import Appointed, appoint
from user_service.settings import UserSettings
from user_service.users.email import EmailAddress

app = typer.Typer(help=__doc__, no_args_is_help=True)


def _address(text: str) -> str:
    try:
        return TypeAdapter[str](EmailAddress).validate_python(text)
    except ValidationError:
        raise typer.BadParameter("this is not one e-mail address") from None


def _name(text: str) -> str:
    try:
        return TypeAdapter[str](Name).validate_python(text)
    except ValidationError:
        raise typer.BadParameter(
            "1 to 256 characters of one line, no address of the web or of mail"
        ) from None


Email = Annotated[str, typer.Option(callback=_address, help="whom to invite")]
FullName = Annotated[str, typer.Option("--name", callback=_name, help="who that is; they may change it")]


@app.command()
def invite(*, email: Email, name: FullName = "Operator") -> None:
    """Make somebody an operator of the platform and print the token they join with."""
    _appoint(PLATFORM_INSTITUTION_ID, email=email, name=name)


@app.command()
def admin(
    *,
    institution: Annotated[str, typer.Option(help="the institution's id, ins_...")],
    email: Email,
    name: FullName = "Admin",
) -> None:
    """Make somebody an admin of an institution that has lost its admins, and print the token they join with."""
    _appoint(institution, email=email, name=name)


@app.command(name="list")
def list_operators() -> None:
    """Show the operators of the platform."""

    async def command(_settings: UserSettings, database: Database) -> list[str]:
        async with database.sessions() as session:
            return [
                f"{row.user_id}  {_state(row.disabled_at_ms, row.password_hash):8}  {row.email}"
                for row in await repository.operators(session)
            ]

    lines = machine.run(command)
    typer.echo("\n".join(lines) or "There is no operator yet: python -m user_service.operators invite --help")


def _appoint(institution_id: str, *, email: str, name: str) -> None:
    async def command(settings: UserSettings, database: Database) -> tuple[Appointed, str | None]:
        async with database.sessions.begin() as session:
            appointed = await appoint(session, institution_id, email=email, full_name=name, now_ms=epoch_ms())
        if appointed.token_id is None:
            return appointed, None
        passphrase = settings.signing_key_passphrase.get_secret_value()
        keys = await asyncio.to_thread(derive_keys, passphrase)
        return appointed, token_text(keys.mailed_tokens, appointed.token_id)

    appointed, token = machine.run(command)
    where = f"{appointed.institution.name} ({appointed.institution.institution_id})"
    typer.echo(f"{appointed.user.user_id} has the role {appointed.user.role} in {where}.")
    if token is None:
        typer.echo("They have a password already: the role counts from their next login on.")
        return
    typer.echo(
        "This token works once, within 7 days, and is not shown again. With it they choose a password:"
    )
    typer.echo('  POST /v1/auth/invitations/accept {"token": "...", "password": "..."}')
    typer.echo(token)


def _state(disabled_at_ms: int | None, password_hash: str) -> str:
    if disabled_at_ms is not None:
        return "disabled"
    return "active" if password_hash else "invited"


if __name__ == "__main__":
    app()
