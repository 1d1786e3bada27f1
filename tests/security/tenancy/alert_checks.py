"""alert_service: nobody is shown, mailed or counted as a recipient of another institution's alerts."""

from typing import Any

import pytest
from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import NoResultFound

from alert_service.alerts import repository as alerts_repository
from alert_service.alerts.repository import AlertFilter
from alert_service.alerts.schemas import MailState
from alert_service.alerts.tables import alerts
from alert_service.bootstrap import MIGRATIONS
from alert_service.notices.repository import _row, find_notice, forget_secret
from alert_service.notices.tables import notices
from alert_service.notifications import recipients_repository, repository
from alert_service.notifications.grouping import Waiting
from alert_service.notifications.letters_repository import write_letter
from alert_service.notifications.mail import Mail
from alert_service.notifications.outcomes import AfterAttempt
from alert_service.notifications.tables import mail_recipients, mails
from common.clock import utc_now
from common.contracts.institutions import Recipients
from common.contracts.notices import Notice, NoticeKind
from common.tenancy import of_every_tenant
from tests.security.tenancy.worlds import BOTH, A, B, World, all_of_a_tenant, on_connection

FAR_MS = 10**12


def fill(connection: Connection) -> None:
    for institution in BOTH:
        name = institution.institution_id
        connection.execute(
            insert(mails).values(
                mail_id=f"mail_{name}",
                institution_id=name,
                message_id=f"<{name}>",
                state=MailState.PENDING.value,
                attempts=0,
                due_at_ms=0,
                leased_until_ms=0,
                created_at_ms=0,
            )
        )
        recipient = {"mail_id": f"mail_{name}", "email": f"{name}@bank.example", "state": "pending"}
        connection.execute(insert(mail_recipients).values(**recipient))
        _keep(connection, name)
        connection.execute(insert(notices).values(**_row(_notice(name), now_ms=1)))
        for number, mail_id in enumerate((f"mail_{name}", None)):
            connection.execute(
                insert(alerts).values(
                    alert_id=f"alr_{name}_{number}",
                    institution_id=name,
                    institution_mode="sandbox",
                    outcome="decline",
                    policy_outcome="decline",
                    accepted_at_ms=1,
                    mail_id=mail_id,
                    body=name.encode(),
                )
            )


def one_alert(connection: Connection) -> None:
    mine = alerts_repository.find_alert(connection, B.institution_id, "alr_ins_b_0")

    assert mine is not None
    assert mine.body == b"ins_b"
    assert alerts_repository.find_alert(connection, B.institution_id, "alr_ins_a_0") is None


def pages_of_alerts(connection: Connection) -> None:
    for wanted in (AlertFilter(), AlertFilter(outcome="decline"), AlertFilter(mail_state="pending")):
        found = alerts_repository.list_alerts(connection, B.institution_id, wanted, before=99, limit=9)

        assert {row.body for row in found} == {b"ins_b"}


def who_got_a_mail(connection: Connection) -> None:
    both = ["mail_ins_a", "mail_ins_b"]

    assert set(alerts_repository.recipients_of(connection, B.institution_id, both)) == {"mail_ins_b"}


def whom_to_mail(connection: Connection) -> None:
    for institution in BOTH:
        known = recipients_repository.known_recipients(connection, institution.institution_id)

        assert known is not None
        assert known[0].emails == (f"{institution.institution_id}@bank.example",)


def keeping_whom_to_mail(connection: Connection) -> None:
    _keep(connection, B.institution_id, email="new@bank.example")

    known = recipients_repository.known_recipients(connection, A.institution_id)
    assert known is not None
    assert known[0].emails == ("ins_a@bank.example",)


def what_a_letter_says(connection: Connection) -> None:
    letter = write_letter(connection, _mail("mail_ins_a", of=B.institution_id), [])

    assert (letter.alerts, letter.told, letter.everybody) == ([], {}, ())


def what_became_of_a_mail(connection: Connection) -> None:
    told = {"ins_a@bank.example": (MailState.DELIVERED, None)}
    result = AfterAttempt(MailState.DELIVERED, told, None)

    repository.finish_attempt(
        connection, _mail("mail_ins_a", of=B.institution_id), result, now_ms=1, retry_ms=1
    )

    for column in (mails.c.state, mail_recipients.c.state):
        assert set(_all(connection, column)) == {"pending"}


def which_alerts_share_a_mail(connection: Connection) -> None:
    _make_mails(connection)

    found = connection.execute(
        of_every_tenant(
            select(alerts.c.institution_id, mails.c.institution_id)
            .join(mails, mails.c.mail_id == alerts.c.mail_id)
            .where(mails.c.mail_id.not_in(["mail_ins_a", "mail_ins_b"])),
            "the test",
        )
    ).all()
    assert found == [("ins_b", "ins_b")]


def alerts_that_wait_for_a_mail(connection: Connection) -> None:
    (number,) = repository._numbers(connection, B.institution_id, limit=9)

    owner = of_every_tenant(select(alerts.c.institution_id).where(alerts.c.number == number), "the test")
    assert connection.scalar(owner) == B.institution_id


def alerts_that_are_put_into_a_mail(connection: Connection) -> None:
    numbers = _all(connection, alerts.c.number)

    repository._make_mail(connection, B.institution_id, numbers, now_ms=1, domain="x")

    waiting = of_every_tenant(select(alerts.c.institution_id).where(alerts.c.mail_id.is_(None)), "the test")
    assert connection.scalars(waiting).all() == ["ins_a"]


def statements_about_a_mail(connection: Connection) -> None:
    mail = _mail("mail_ins_b", of=B.institution_id)

    with all_of_a_tenant(connection):
        write_letter(connection, mail, ["other@bank.example"])
        repository._make_mail(connection, B.institution_id, [99], now_ms=1, domain="x")


def one_notice(connection: Connection) -> None:
    for institution in BOTH:
        mine = _mail("", of=institution.institution_id, notice_id=f"ntc_{institution.institution_id}")
        assert find_notice(connection, mine).facts == {"change": institution.institution_id}

    with pytest.raises(NoResultFound):
        find_notice(connection, _mail("", of=B.institution_id, notice_id="ntc_ins_a"))


def the_secret_of_a_notice(connection: Connection) -> None:
    forget_secret(connection, _mail("", of=B.institution_id, notice_id="ntc_ins_a"))

    assert _all(connection, notices.c.secret) == ["ins_a", "ins_b"]


def _make_mails(connection: Connection) -> None:
    waiting = [Waiting(B.institution_id, 9, 0, untold_mails=0)]
    repository.make_mails(
        connection, waiting, now_ms=FAR_MS, collect_ms=0, max_alerts=50, domain="assay.example"
    )


def _keep(connection: Connection, name: str, *, email: str | None = None) -> None:
    found = Recipients(institution_id=name, institution_name=name, emails=(email or f"{name}@bank.example",))
    recipients_repository.keep_recipients(connection, found, now_ms=1)


def _notice(name: str) -> Notice:
    return Notice(
        notice_id=f"ntc_{name}",
        kind=NoticeKind.SECURITY_CHANGE,
        institution_id=name,
        recipients=(f"{name}@bank.example",),
        facts={"change": name},
        secret=name,
        created_at=utc_now(),
    )


def _mail(mail_id: str, *, of: str, notice_id: str | None = None) -> Mail:
    return Mail(mail_id, of, "<message>", attempts=1, created_at_ms=0, notice_id=notice_id)


def _all(connection: Connection, column: Any) -> list[Any]:  # noqa: ANN401 - any column
    return list(connection.scalars(of_every_tenant(select(column), "the test")))


WORLD = World(
    MIGRATIONS,
    on_connection(fill),
    {
        check.__name__: on_connection(check)
        for check in (
            one_alert,
            pages_of_alerts,
            who_got_a_mail,
            whom_to_mail,
            keeping_whom_to_mail,
            what_a_letter_says,
            what_became_of_a_mail,
            which_alerts_share_a_mail,
            alerts_that_wait_for_a_mail,
            alerts_that_are_put_into_a_mail,
            statements_about_a_mail,
            one_notice,
            the_secret_of_a_notice,
        )
    },
)
