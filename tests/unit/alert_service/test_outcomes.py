from alert_service.alerts.schemas import MailState
from alert_service.notifications.outcomes import Attempt, Reply, after

BOTH = ("a@example.org", "b@example.org")
FOR_GOOD, FOR_NOW = Reply(550, "no such user"), Reply(451, "try later")


class TestAfter:
    def test_everybody_got_it(self) -> None:
        result = after(Attempt({}), BOTH, delivered_before=False)

        assert result.state is MailState.DELIVERED
        assert result.error is None

    def test_one_refused_for_good_does_not_hold_up_the_other(self) -> None:
        result = after(Attempt({BOTH[0]: FOR_GOOD}), BOTH, delivered_before=False)

        assert result.state is MailState.DELIVERED
        assert result.recipients[BOTH[0]] == (MailState.DEAD_LETTER, "550 no such user")
        assert result.recipients[BOTH[1]] == (MailState.DELIVERED, None)

    def test_one_refused_for_now_keeps_the_mail_pending_for_that_one(self) -> None:
        result = after(Attempt({BOTH[0]: FOR_NOW}), BOTH, delivered_before=False)

        assert result.state is MailState.PENDING
        assert result.recipients[BOTH[1]][0] is MailState.DELIVERED

    def test_all_refused_for_good_is_a_dead_letter(self) -> None:
        result = after(Attempt(dict.fromkeys(BOTH, FOR_GOOD)), BOTH, delivered_before=False)

        assert result.state is MailState.DEAD_LETTER

    def test_the_last_one_refused_after_others_got_it_is_delivered(self) -> None:
        result = after(Attempt({BOTH[0]: FOR_GOOD}), BOTH[:1], delivered_before=True)

        assert result.state is MailState.DELIVERED

    def test_a_connection_that_failed_keeps_everybody_pending(self) -> None:
        failure = Reply(None, "connection refused")

        result = after(Attempt({}, failure), BOTH, delivered_before=False)

        assert result.state is MailState.PENDING
        assert result.error == "connection refused"

    def test_contents_refused_for_good_are_a_dead_letter(self) -> None:
        result = after(Attempt({}, Reply(554, "rejected")), BOTH, delivered_before=False)

        assert result.state is MailState.DEAD_LETTER
