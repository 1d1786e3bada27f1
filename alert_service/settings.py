"""The settings of alert_service."""

import re
from email.utils import parseaddr
from enum import StrEnum
from ipaddress import ip_address
from typing import ClassVar, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from common.db_settings import ReplicatedSettings

_ADDRESS = re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+")


class SmtpSecurity(StrEnum):
    """How the connection to the mail server is protected."""

    STARTTLS = "starttls"
    TLS = "tls"
    NONE = "none"


class AlertSettings(ReplicatedSettings):
    """What alert_service is told."""

    secrets_of_others: ClassVar[frozenset[str]] = frozenset({"smtp_password"})

    port: int = Field(8003, ge=0, le=65535, description="port to listen on")
    max_body_bytes: int = Field(4_194_304, ge=1024, description="longest request body that is read")
    database_url: SecretStr = Field(
        SecretStr("sqlite:///var/alert_service.db"), description="sqlite:///FILE or postgresql://..."
    )
    decision_link: str = Field(
        "http://127.0.0.1:8000/v1/decisions/{decision_id}",
        description="the link in mails; {decision_id} is filled in",
    )
    account_link: str = Field(
        "",
        description="the link in mails that hold a token, with {token} in it, best behind a #; empty: they show the "
        "request that takes the token",
    )
    account_api_url: str = Field(
        "http://127.0.0.1:8001",
        description="where people reach user_service; the requests in mails go there, without an ACCOUNT_LINK",
    )
    mail_from: str = Field("Assay <assay@localhost>", description="sender of mails")
    smtp_host: str = Field("127.0.0.1", description="mail server")
    smtp_port: int = Field(8025, ge=1, le=65535, description="its port")
    smtp_username: str = Field("", description="user at the mail server; empty = no login")
    smtp_password: SecretStr = Field(SecretStr(""), description="password at the mail server")
    smtp_security: SmtpSecurity = Field(
        SmtpSecurity.NONE, description="starttls, tls, or none (none only on the loopback)"
    )
    smtp_ca_file: str = Field(
        "", description="certificates of the authority that the mail server's is from; empty = the machine's"
    )
    smtp_local_hostname: str = Field(
        "", description="name this machine gives itself in EHLO; empty = its full name"
    )
    smtp_timeout_s: float = Field(
        10.0, gt=0, le=60, description="longest wait for each answer of the mail server"
    )
    mail_collect_s: float = Field(1.0, ge=0, le=60, description="how long alerts are collected for one mail")
    mail_max_alerts: int = Field(50, ge=1, le=200, description="most alerts that share a mail")
    mail_concurrency: int = Field(
        8, ge=1, le=64, description="how many mails are sent at once; one institution's: a quarter of it"
    )
    mail_give_up_h: float = Field(
        72.0,
        gt=0,
        description="hours after which an address that the mail server refuses for the time being counts as refused for good",
    )
    recipients_max_age_s: float = Field(
        60.0, ge=0, description="seconds after which recipients are asked for again"
    )
    max_waiting: int = Field(
        256, ge=1, description="how many batches of alerts, and of notices, may wait to be saved before 503"
    )

    @field_validator("mail_from")
    @classmethod
    def _one_sender(cls, value: str) -> str:
        if not value.isprintable() or not _ADDRESS.fullmatch(parseaddr(value)[1]):
            raise ValueError("MAIL_FROM is one address, such as Assay <assay@example.org>")
        return value

    @field_validator("decision_link")
    @classmethod
    def _a_link(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")) or "{decision_id}" not in value:
            raise ValueError("DECISION_LINK is an http address that holds {decision_id}")
        return value

    @field_validator("account_link")
    @classmethod
    def _a_link_for_tokens(cls, value: str) -> str:
        if value and (not value.startswith(("http://", "https://")) or "{token}" not in value):
            raise ValueError("ACCOUNT_LINK is empty, or an http address that holds {token}")
        return value

    @field_validator("account_api_url")
    @classmethod
    def _an_address(cls, value: str) -> str:
        if not re.fullmatch(r"https?://[\x21-\x7e]+", value):
            raise ValueError("ACCOUNT_API_URL is an http address")
        return value

    @property
    def mail_domain(self) -> str:
        """Return the domain that mails are from; it also makes their Message-IDs unique in the world."""
        return parseaddr(self.mail_from)[1].rpartition("@")[2]

    def why_one_process(self) -> str | None:
        """Which alerts share a mail, and how fast the mail server is asked, one process decides."""
        return "one alert_service process makes the mails and paces the mail server; WORKERS=1"

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
