import pytest
from pydantic import ValidationError

from alert_service.settings import AlertSettings, SmtpSecurity


class TestAlertSettings:
    @pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
    def test_plain_text_is_taken_on_the_loopback(self, host: str) -> None:
        assert AlertSettings(smtp_host=host, smtp_security=SmtpSecurity.NONE).smtp_host == host

    @pytest.mark.parametrize("host", ["mail.example.org", "10.0.0.1"])
    def test_plain_text_across_a_network_is_refused(self, host: str) -> None:
        with pytest.raises(ValidationError, match="loopback"):
            AlertSettings(smtp_host=host, smtp_security=SmtpSecurity.NONE)
        assert AlertSettings(smtp_host=host, smtp_security=SmtpSecurity.STARTTLS).smtp_host == host

    @pytest.mark.parametrize("sender", ["", "nobody", "a@b\r\nBcc: c@d", "Assay <>", "jörg@example.org"])
    def test_the_sender_is_one_address(self, sender: str) -> None:
        with pytest.raises(ValidationError, match="MAIL_FROM"):
            AlertSettings(mail_from=sender)

    def test_the_domain_of_the_sender_is_known(self) -> None:
        assert AlertSettings(mail_from="Assay <alerts@assay.example>").mail_domain == "assay.example"
        assert AlertSettings(mail_from="alerts@assay.example").mail_domain == "assay.example"

    @pytest.mark.parametrize("link", ["javascript:{decision_id}", "https://assay.example/decisions/"])
    def test_the_link_leads_to_the_decision(self, link: str) -> None:
        with pytest.raises(ValidationError, match="DECISION_LINK"):
            AlertSettings(decision_link=link)

    @pytest.mark.parametrize("link", ["", "https://assay.example/account#{token}"])
    def test_takes_no_link_for_tokens_or_one_that_holds_them(self, link: str) -> None:
        assert AlertSettings(account_link=link).account_link == link

    @pytest.mark.parametrize("link", ["https://assay.example/", "javascript:{token}"])
    def test_refuses_a_link_for_tokens_that_leads_nowhere(self, link: str) -> None:
        with pytest.raises(ValidationError, match="ACCOUNT_LINK"):
            AlertSettings(account_link=link)

    @pytest.mark.parametrize("url", ["", "users.assay.example", "javascript:1", "https://a b"])
    def test_refuses_an_address_of_accounts_that_leads_nowhere(self, url: str) -> None:
        with pytest.raises(ValidationError, match="ACCOUNT_API_URL"):
            AlertSettings(account_api_url=url)
