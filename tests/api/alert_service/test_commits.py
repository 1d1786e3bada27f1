"""Every route that keeps something: nothing is answered before it is kept, and not at all when it could not be."""

from collections.abc import Awaitable, Callable

import httpx
import pytest

from tests.alert_factories import alert_body
from tests.api.alert_service.conftest import Alerts
from tests.commits import Route, check_commit_comes_first, check_failed_commit_is_an_outage
from tests.mail_server import MailServer
from tests.notice_factories import notice_body

COMMITTING: dict[Route, Callable[[Alerts], Awaitable[httpx.Response]]] = {
    ("POST", "/v1/internal/alerts"): lambda alerts: alerts.raise_alerts(alert_body()),
    ("POST", "/v1/internal/notices"): lambda alerts: alerts.send_notices(notice_body()),
}
KEEPING_NOTHING: set[Route] = set()


@pytest.mark.parametrize("route", COMMITTING, ids=" ".join)
class TestCommit:
    async def test_comes_before_the_first_byte_of_the_answer(self, alerts: Alerts, route: Route) -> None:
        await check_commit_comes_first(alerts.client, lambda: COMMITTING[route](alerts))

    async def test_that_fails_is_an_outage_after_which_the_same_request_succeeds(
        self, alerts: Alerts, route: Route
    ) -> None:
        await check_failed_commit_is_an_outage(lambda: COMMITTING[route](alerts))

        again = await COMMITTING[route](alerts)

        assert again.is_success, again.text


class TestFailedCommit:
    async def test_of_an_alert_tells_nobody_until_it_is_raised_again(
        self, alerts: Alerts, mails: MailServer
    ) -> None:
        await check_failed_commit_is_an_outage(lambda: alerts.raise_alerts(alert_body()))
        missing = await alerts.get("/v1/alerts/alr_1")
        told_before = list(mails.received)

        again = await alerts.raise_alerts(alert_body())
        await alerts.until_state("alr_1", "delivered")

        assert missing.status_code == 404
        assert told_before == []
        assert again.json() == {"accepted": 1, "repeated": 0}
        assert len(mails.received) == 1

    async def test_of_a_notice_mails_nothing_until_it_is_sent_again(
        self, alerts: Alerts, mails: MailServer
    ) -> None:
        await check_failed_commit_is_an_outage(lambda: alerts.send_notices(notice_body()))
        told_before = list(mails.received)

        again = await alerts.send_notices(notice_body())
        await mails.until(len)

        assert told_before == []
        assert again.json() == {"accepted": 1, "repeated": 0}
        assert len(mails.received) == 1
