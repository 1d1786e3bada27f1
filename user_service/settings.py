"""What user_service is told."""

import re
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from common.contracts.access import Tier
from common.contracts.fields import Text
from common.contracts.institutions import Currency, InstitutionMode
from common.db_settings import DatabaseSettings
from common.settings import PLACEHOLDER, unless_shared
from user_service.users.email import EmailAddress


class RegistrationPolicy(StrEnum):
    """Who may register an institution."""

    VERIFIED = "verified"  # once they have shown that they read the address's mail
    OPEN = "open"  # at once; the answer says whether an address has an account
    CLOSED = "closed"


_API_KEY = re.compile(r"[\x21-\x7e]{32,256}\Z")


def _fit_for_a_header(key: SecretStr) -> SecretStr:
    text = key.get_secret_value()
    if text and not _API_KEY.match(text):
        message = "an API key has 32 to 256 visible ASCII characters"
        raise ValueError(message)
    return key


ConfiguredApiKey = Annotated[SecretStr, AfterValidator(_fit_for_a_header)]


class UserSettings(DatabaseSettings):
    """Settings of accounts, passwords, tokens and the secrets of the other services."""

    port: int = Field(8001, ge=0, le=65535, description="port to listen on")
    database_url: SecretStr = Field(
        SecretStr("sqlite:///var/user_service.db"),
        description="where institutions, users, sessions and keys are kept",
    )
    alert_service_url: str = Field("http://127.0.0.1:8003", description="where mails are asked for")
    log_service_url: str = Field("http://127.0.0.1:8004", description="where identity records are archived")
    signing_key_passphrase: SecretStr = Field(
        SecretStr(PLACEHOLDER),
        min_length=8,
        description="encrypts the signing keys in the database; without it they cannot be used again",
    )
    registration: RegistrationPolicy = Field(
        RegistrationPolicy.VERIFIED,
        description="who registers institutions: verified (everybody, confirmed by a mail), "
        "open (everybody, at once; says which addresses have accounts: for private networks) or closed (operators)",
    )
    registration_tier: Tier = Field(Tier.STARTER, description="what a new institution is given")
    operator_email: EmailAddress | Literal[""] = Field(
        "", description="who is invited as first operator at a start without any; empty: nobody"
    )
    signing_key_days: int = Field(
        90, ge=0, le=3650, description="days after which a new key signs tokens; 0: only when it is asked for"
    )
    approval_days: int = Field(
        400, ge=30, le=3650, description="days a request for a second person is kept after it was decided on"
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
        SecretStr(""), description="not used here: user_service signs its own token"
    )
    frontend_api_key: ConfiguredApiKey = Field(
        SecretStr(""),
        description="API key that may score (32 to 256 visible ASCII characters), made at the start; empty: there is none, and the "
        "one before ends",
    )
    admin_api_key: ConfiguredApiKey = Field(
        SecretStr(""),
        description="API key with every scope a key may have (the same), made at the start; empty: there is none, and the one "
        "before ends",
    )
    api_keys_institution: Text = Field(
        "Default",
        description="whose those two keys are: the id of an institution, or the name of one that is made for them",
    )
    api_keys_institution_mode: InstitutionMode = Field(
        InstitutionMode.SANDBOX, description="live or sandbox, if it is made"
    )
    api_keys_institution_currency: Currency = Field("EUR", description="its base currency, if it is made")

    def why_one_process(self) -> str | None:
        """Limits and sessions are the same for all who share both."""
        return unless_shared(self.database_url, self.valkey_url)

    @model_validator(mode="after")
    def _keys_differ(self) -> Self:
        if self.frontend_api_key.get_secret_value() and self.frontend_api_key == self.admin_api_key:
            raise ValueError("FRONTEND_API_KEY and ADMIN_API_KEY are two different keys")
        return self
