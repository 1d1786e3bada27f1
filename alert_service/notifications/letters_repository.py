"""The addresses of each mail in the database, and what became of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, select, update

from alert_service.alerts.schemas import MailState
from alert_service.alerts.tables import alerts
from alert_service.notifications.addressees import NOT_AN_ADDRESS, Addressees, addressees
from alert_service.notifications.mail import Mail
from alert_service.notifications.tables import mail_recipients
from common.db import insert_ignoring_repeats
from common.tenancy import of_tenant


@dataclass(frozen=True, slots=True)
class Letter:
    """To whom a mail goes, and the alerts it tells: `everybody` is written in it, `addressees.to` still has to get it."""

    alerts: Sequence[bytes]
    addressees: Addressees
    told: Mapping[str, MailState]
    everybody: tuple[str, ...]


def write_letter(connection: Connection, mail: Mail, wanted: Sequence[str]) -> Letter:
    """Note to whom a mail goes, given who is to get it now, and return what is needed to write and send it."""
    mail_id = mail.mail_id
    told = told_of(connection, mail)
    found = addressees(wanted, told)
    if found.new:
        connection.execute(
            insert_ignoring_repeats(connection, mail_recipients),
            [{"mail_id": mail_id, "email": each, "state": MailState.PENDING.value} for each in found.new],
        )
    for address in found.odd:
        set_recipient(connection, mail, address, MailState.DEAD_LETTER, NOT_AN_ADDRESS)
    if found.gone:
        leaving = delete(mail_recipients).where(
            mail_recipients.c.mail_id == mail_id, mail_recipients.c.email.in_(found.gone)
        )
        connection.execute(of_tenant(mail.institution_id, leaving))
    query = select(alerts.c.body).where(alerts.c.mail_id == mail_id).order_by(alerts.c.number)
    bodies = connection.scalars(of_tenant(mail.institution_id, query)).all()
    everybody = tuple(sorted({*told, *found.new} - {*found.gone, *found.odd}))
    return Letter(bodies, found, told, everybody)


def told_of(connection: Connection, mail: Mail) -> dict[str, MailState]:
    """Return what became of each address of a mail so far."""
    query = select(mail_recipients.c.email, mail_recipients.c.state).where(
        mail_recipients.c.mail_id == mail.mail_id
    )
    rows = connection.execute(of_tenant(mail.institution_id, query)).all()
    return {row.email: MailState(row.state) for row in rows}


def set_recipient(
    connection: Connection, mail: Mail, address: str, state: MailState, error: str | None
) -> None:
    """Note what became of one address."""
    setting = (
        update(mail_recipients)
        .where(mail_recipients.c.mail_id == mail.mail_id, mail_recipients.c.email == address)
        .values(state=state.value, last_error=None if error is None else error[:200])
    )
    connection.execute(of_tenant(mail.institution_id, setting))
