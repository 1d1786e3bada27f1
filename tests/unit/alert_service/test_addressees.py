import pytest

from alert_service.alerts.schemas import MailState
from alert_service.notifications.addressees import addressees

A, B, C = "a@example.org", "b@example.org", "c@example.org"


class TestAddressees:
    def test_all_admins_get_a_mail_that_was_not_tried_yet(self) -> None:
        found = addressees([A, B], {})

        assert found.to == found.new == (A, B)
        assert found.gone == found.odd == ()

    def test_who_got_it_or_was_refused_for_good_is_not_asked_again(self) -> None:
        told = {A: MailState.DELIVERED, B: MailState.DEAD_LETTER, C: MailState.PENDING}

        found = addressees([A, B, C], told)

        assert found.to == (C,)
        assert found.new == ()

    def test_who_is_no_longer_an_admin_is_forgotten_unless_he_got_it(self) -> None:
        found = addressees([C], {A: MailState.DELIVERED, B: MailState.PENDING, C: MailState.PENDING})

        assert found.gone == (B,)
        assert found.to == (C,)

    def test_who_became_an_admin_meanwhile_gets_it_too(self) -> None:
        found = addressees([B], {A: MailState.PENDING})

        assert found.to == found.new == (B,)
        assert found.gone == (A,)

    def test_the_same_address_counts_once(self) -> None:
        assert addressees([A, A], {}).to == (A,)

    @pytest.mark.parametrize(
        "odd",
        [
            "",
            "nobody",
            "a@",
            "@example.org",
            "a@b@example.org",
            "a b@example.org",
            "a@example.org\r\nBcc: evil@example.org",
            "a@example.org,evil@example.org",
            "Name <a@example.org>",
            "a@example.org\x00",
            "x" * 250 + "@example.org",
        ],
    )
    def test_what_is_no_address_is_written_down_and_never_asked(self, odd: str) -> None:
        found = addressees([A, odd], {})

        assert found.to == (A,)
        assert found.odd == (odd,)
        assert found.new == (A, odd)

    def test_addresses_beyond_ascii_are_addresses(self) -> None:
        assert addressees(["jörg@exämple.org"], {}).odd == ()
