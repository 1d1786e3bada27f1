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
