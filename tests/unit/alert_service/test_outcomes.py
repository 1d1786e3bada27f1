from alert_service.alerts.schemas import MailState
from alert_service.notifications.outcomes import (
    EXPIRED,
    NOBODY_KNOWN,
    Attempt,
    Reply,
    after,
    expired,
    with_nobody_to_ask,
)

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

    def test_an_address_refused_for_now_too_long_is_given_up(self) -> None:
        result = after(Attempt({BOTH[0]: FOR_NOW}), BOTH, delivered_before=False, give_up=True)

        assert result.state is MailState.DELIVERED
        assert result.recipients[BOTH[0]] == (MailState.DEAD_LETTER, "451 try later")

    def test_a_mail_server_that_is_away_is_never_given_up(self) -> None:
        for failure in (Reply(None, "connection refused"), Reply(451, "try later")):
            result = after(Attempt({}, failure), BOTH, delivered_before=False, give_up=True)

            assert result.state is MailState.PENDING

    def test_knows_whether_somebody_got_it(self) -> None:
        refused = dict.fromkeys(BOTH, FOR_NOW)

        assert after(Attempt({BOTH[0]: FOR_NOW}), BOTH, delivered_before=False).somebody_got_it
        assert not after(Attempt(refused), BOTH, delivered_before=True).somebody_got_it


class TestWithNobodyToAsk:
    def test_a_mail_that_somebody_got_is_delivered(self) -> None:
        told = {BOTH[0]: MailState.DELIVERED, BOTH[1]: MailState.DEAD_LETTER}

        assert with_nobody_to_ask(told, somebody_is_known=False).state is MailState.DELIVERED

    def test_a_mail_that_all_refused_is_a_dead_letter(self) -> None:
        told = {BOTH[0]: MailState.DEAD_LETTER}

        assert with_nobody_to_ask(told, somebody_is_known=True).state is MailState.DEAD_LETTER

    def test_without_any_admin_a_mail_waits_for_one(self) -> None:
        result = with_nobody_to_ask({}, somebody_is_known=False)

        assert result.state is MailState.PENDING
        assert result.error == NOBODY_KNOWN


class TestExpired:
    def test_ends_for_all_who_did_not_get_it(self) -> None:
        told = {"a": MailState.PENDING, "b": MailState.DEAD_LETTER}

        found = expired(told)

        assert found.state is MailState.EXPIRED
        assert found.recipients == {"a": (MailState.EXPIRED, EXPIRED)}
        assert not found.somebody_got_it

    def test_stays_delivered_when_somebody_got_it_in_time(self) -> None:
        found = expired({"a": MailState.DELIVERED, "b": MailState.PENDING})

        assert found.state is MailState.DELIVERED
        assert found.recipients == {"b": (MailState.EXPIRED, EXPIRED)}


class TestReply:
    def test_what_a_server_says_is_shown_and_only_its_code_is_logged(self) -> None:
        reply = Reply(550, "<a@example.org> unknown")

        assert reply.said == "550 <a@example.org> unknown"
        assert reply.logged == "550"

    def test_our_own_words_are_logged(self) -> None:
        reply = Reply(None, "the mail server took too long")

        assert reply.said == reply.logged == "the mail server took too long"
