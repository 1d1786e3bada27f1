"""The settings of alert_service."""

from enum import StrEnum
from ipaddress import ip_address
from typing import Self

from pydantic import Field, SecretStr, model_validator

from common.settings import ServiceSettings


class SmtpSecurity(StrEnum):
    """How the connection to the mail server is protected."""

    STARTTLS = "starttls"
    TLS = "tls"
    NONE = "none"


class AlertSettings(ServiceSettings):
    """What alert_service is told."""

    port: int = Field(8003, ge=0, le=65535, description="port to listen on")
    max_body_bytes: int = Field(4_194_304, ge=1024, description="longest request body that is read")
    database_url: str = Field(
        "sqlite:///var/alert_service.db", description="sqlite:///FILE or postgresql://..."
    )
    decision_link: str = Field(
        "http://127.0.0.1:8000/v1/decisions/{decision_id}",
        description="the link in mails; {decision_id} is filled in",
    )
    mail_from: str = Field("Assay <assay@localhost>", description="sender of mails")
    smtp_host: str = Field("127.0.0.1", description="mail server")
    smtp_port: int = Field(8025, ge=1, le=65535, description="its port")
    smtp_username: str = Field("", description="user at the mail server; empty = no login")
    smtp_password: SecretStr = Field(SecretStr(""), description="password at the mail server")
    smtp_security: SmtpSecurity = Field(
        SmtpSecurity.NONE, description="starttls, tls, or none (none only on the loopback)"
    )
    smtp_timeout_s: float = Field(
        10.0, gt=0, le=60, description="longest wait for each answer of the mail server"
    )
    mail_collect_s: float = Field(1.0, ge=0, le=60, description="how long alerts are collected for one mail")
    mail_max_alerts: int = Field(50, ge=1, le=200, description="most alerts that share a mail")
    mail_concurrency: int = Field(4, ge=1, le=32, description="how many mails are sent at the same time")
    recipients_max_age_s: float = Field(
        60.0, ge=0, description="seconds after which recipients are asked for again"
    )
    max_waiting: int = Field(
        256, ge=1, description="how many batches of alerts may wait to be saved before 503"
    )

    @model_validator(mode="after")
    def _refuse_plain_text_across_a_network(self) -> Self:
        if self.smtp_security is SmtpSecurity.NONE and not _is_loopback(self.smtp_host):
            raise ValueError("SMTP_SECURITY=none is only taken for a mail server on the loopback")
        return self


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
