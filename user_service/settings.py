"""What user_service is told."""

from enum import StrEnum
from typing import Literal

from pydantic import Field, SecretStr

from common.contracts.access import Tier
from common.settings import PLACEHOLDER, ServiceSettings
from user_service.users.email import EmailAddress


class RegistrationPolicy(StrEnum):
    """Who may register an institution."""

    OPEN = "open"
    CLOSED = "closed"


class UserSettings(ServiceSettings):
    """Settings of accounts, passwords, tokens and the secrets of the other services."""

    port: int = Field(8001, ge=0, le=65535, description="port to listen on")
    database_url: str = Field(
        "sqlite:///var/user_service.db", description="where institutions, users, sessions and keys are kept"
    )
    signing_key_passphrase: SecretStr = Field(
        SecretStr(PLACEHOLDER),
        min_length=8,
        description="encrypts the signing keys in the database; without it they cannot be used again",
    )
    registration: RegistrationPolicy = Field(
        RegistrationPolicy.OPEN,
        description="who registers institutions: open (everybody) or closed (operators)",
    )
    registration_tier: Tier = Field(Tier.STARTER, description="what a new institution is given")
    operator_email: EmailAddress | Literal[""] = Field(
        "", description="who is invited as first operator at a start without any; empty: nobody"
    )
    signing_key_days: int = Field(
        90, ge=0, le=3650, description="days after which a new key signs tokens; 0: only when it is asked for"
    )
    access_token_s: int = Field(900, ge=60, le=3600, description="seconds a user's access token is valid")
    service_token_s: int = Field(900, ge=60, le=3600, description="seconds a service's access token is valid")
    refresh_token_days: int = Field(30, ge=1, le=365, description="days a refresh token can be used")
    session_days: int = Field(
        90, ge=1, le=3650, description="days after which a session ends, however often it was refreshed"
    )
    password_workers: int = Field(1, ge=1, le=64, description="threads that hash passwords")
    password_queue: int = Field(
        8,
        ge=1,
        le=1000,
        description="passwords that may wait for a thread; the next one is answered with 503",
    )
    ai_service_secret: SecretStr = Field(
        SecretStr(""), description="ai_service's secret; empty: it is refused"
    )
    alert_service_secret: SecretStr = Field(
        SecretStr(""), description="alert_service's secret; empty: it is refused"
    )
    log_service_secret: SecretStr = Field(
        SecretStr(""), description="log_service's secret; empty: it is refused"
    )
    external_apis_service_secret: SecretStr = Field(
        SecretStr(""), description="external_apis_services' secret; empty: it is refused"
    )
    operator_secret: SecretStr = Field(
        SecretStr(""), description="secret of the operator's own tools; empty: they are refused"
    )
    service_client_secret: SecretStr = Field(
        SecretStr(""), description="not used here: user_service calls no other service"
    )
