"""Settings every service has, and the one place that knows where settings come from.

A value is taken from the first of these that names it: a flag (`--port 8000`), the environment (`PORT=8000`),
the file named by `SETTINGS_FILE` (default `.env` in the working directory), the default written here.
"""

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, ClassVar, Self, TypeVar

from pydantic import BeforeValidator, Field, IPvAnyNetwork, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from common.errors import StartupError
from common.failpoints import parse_failpoints
from common.valkey.address import check_address

PLACEHOLDER = "change-me"
MIN_SECRET_LENGTH = 32
WORKER_SOCKET = "ASSAY_WORKER_SOCKET"
"""Names the open file that a supervisor gave to a worker (`common.workers`); nobody else sets it."""


def _nothing_if_empty(value: object) -> object:
    return None if value == "" else value


OptionalSecret = Annotated[SecretStr | None, BeforeValidator(_nothing_if_empty)]
"""A secret, or None for an empty text."""
OptionalPath = Annotated[Path | None, BeforeValidator(_nothing_if_empty)]
"""A path, or None for an empty text."""


class Environment(StrEnum):
    """Where this process runs; production refuses placeholder secrets."""

    DEVELOPMENT = "development"
    TEST = "test"
    PRODUCTION = "production"


class ServiceSettings(BaseSettings):
    """What all five services are told; a service's own class adds its own."""

    model_config = SettingsConfigDict(
        extra="ignore",
        frozen=True,
        cli_kebab_case=True,
        cli_ignore_unknown_args=False,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        hide_input_in_errors=True,
    )

    secrets_of_others: ClassVar[frozenset[str]] = frozenset()
    addresses: ClassVar[frozenset[str]] = frozenset({"database_url", "read_database_url", "valkey_url"})

    environment: Environment = Field(
        Environment.DEVELOPMENT,
        description="development, test or production; production refuses placeholders",
    )
    debug: bool = Field(False, description="log at debug level and in colours")
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on")
    log_level: str = Field(
        "info", pattern="^(debug|info|warning|error)$", description="least level that is logged"
    )
    graceful_shutdown_s: int = Field(
        10, ge=1, le=300, description="seconds that running requests get to finish"
    )
    workers: int = Field(
        1,
        ge=1,
        le=64,
        description="processes that serve the port together: ai_service and user_service need PostgreSQL and "
        "VALKEY_URL for more than one; log_service, alert_service and a GeoIP mock are always one",
    )
    head_timeout_s: float = Field(
        10, gt=0, description="seconds a client gets to send a request's headers before 408"
    )
    body_timeout_s: float = Field(30, gt=0, description="seconds it then gets to send the body before 408")
    max_body_bytes: int = Field(65_536, ge=1024, description="longest request body that is read")
    trusted_proxies: list[IPvAnyNetwork] = Field(
        [],
        description='proxies in front, e.g. ["10.0.0.0/8"]: only they say in X-Forwarded-For who their client is',
    )
    unauthenticated_per_minute: int = Field(
        100, ge=1, description="requests a minute of one client address to routes that need no authentication"
    )
    failed_authentications_per_minute: int = Field(
        600, ge=1, description="refused tokens and keys a minute of one client address, before 429"
    )
    user_service_url: str = Field(
        "http://127.0.0.1:8001", description="where tokens and public keys come from"
    )
    token_issuer: str = Field("assay", description="the issuer that tokens must name")
    token_audience: str = Field("assay", description="the audience that tokens must name")
    service_client_secret: SecretStr = Field(
        SecretStr(PLACEHOLDER), description="this service's secret for getting service tokens"
    )
    access_poll_s: float = Field(
        10.0, ge=1, le=30, description="seconds between two looks at who may still get in"
    )
    access_folder: OptionalPath = Field(
        Path("var/access"),
        description="folder of the file that keeps it over a restart, for this user alone; empty: it is not kept, and a "
        "service that starts lets nobody in until user_service answers",
    )
    valkey_url: OptionalSecret = Field(
        None,
        description="Valkey or Redis that processes share: valkey://user:password@host:6379/0, valkeys:// over TLS, "
        "valkey+cluster:// and valkeys+cluster:// for a cluster; empty: state is kept in this one process",
    )
    valkey_ca_file: OptionalPath = Field(
        None,
        description="the authority that Valkey's certificate has to come from; empty: those of the machine",
    )
    valkey_timeout_ms: int = Field(100, ge=5, description="how long one call to Valkey may take")
    failpoints: str = Field(
        "", description="points where a test ends, fails or delays this process; production refuses them"
    )

    @property
    def is_production(self) -> bool:
        """Whether real users depend on this process."""
        return self.environment is Environment.PRODUCTION

    @field_validator("failpoints")
    @classmethod
    def _are_failpoints(cls, value: str) -> str:
        parse_failpoints(value)
        return value

    def why_one_process(self) -> str | None:
        """Return why several processes of this service would not agree; None when they do."""
        return None

    @model_validator(mode="after")
    def _refuse_workers_that_do_not_agree(self) -> Self:
        if self.workers > 1 and (reason := self.why_one_process()):
            raise ValueError(f"WORKERS={self.workers} is refused: {reason}")
        return self

    @model_validator(mode="after")
    def _refuse_odd_valkey(self) -> Self:
        if self.valkey_url is not None:
            check_address(self.valkey_url.get_secret_value(), in_production=self.is_production)
        return self

    @model_validator(mode="after")
    def _refuse_failpoints_in_production(self) -> Self:
        if self.failpoints and self.is_production:
            raise ValueError("FAILPOINTS is for tests; production does not take it")
        return self

    @model_validator(mode="after")
    def _refuse_placeholders_in_production(self) -> Self:
        if not self.is_production:
            return self
        weak = [
            name.upper()
            for name in type(self).model_fields
            if _is_weak(getattr(self, name), is_ours=name not in self.secrets_of_others | self.addresses)
        ]
        if weak:
            what = f"is a placeholder or shorter than {MIN_SECRET_LENGTH} characters"
            raise ValueError("; ".join(f"{name} {what}" for name in weak))
        return self


def _is_weak(value: object, *, is_ours: bool) -> bool:
    """Say whether a secret must not be used; how long one is that others gave out is theirs to decide."""
    if not isinstance(value, SecretStr):
        return False
    secret = value.get_secret_value()
    return secret.startswith(PLACEHOLDER) or (is_ours and 0 < len(secret) < MIN_SECRET_LENGTH)


def unless_shared(database_url: SecretStr, valkey_url: SecretStr | None) -> str | None:
    """Return why processes of these settings would not agree: what they share is PostgreSQL and Valkey."""
    if database_url.get_secret_value().startswith("postgresql") and valkey_url is not None:
        return None
    return "several processes agree only over DATABASE_URL=postgresql://... and VALKEY_URL; set both, or WORKERS=1"


SettingsT = TypeVar("SettingsT", bound="ServiceSettings")


def worker_socket() -> int | None:
    """Return the open file a worker serves; None in a process that is not one."""
    named = os.environ.get(WORKER_SOCKET)
    return None if named is None else int(named)


def load_settings(settings_type: type[SettingsT], *, flags: list[str] | None = None) -> SettingsT:
    """Read the settings of one service: `flags`, then the environment, then the file, then defaults.

    Raises `pydantic.ValidationError` naming every field that is wrong, without its value, and `StartupError`
    when the file that `SETTINGS_FILE` names is missing or cannot be read.
    """
    named = os.environ.get("SETTINGS_FILE")
    if named and not Path(named).exists():
        raise StartupError(f"SETTINGS_FILE names a file that does not exist: {named}")
    try:
        return settings_type(
            _env_file=".env" if named is None else named,
            _cli_parse_args=flags or False,
            _cli_prog_name=sys.argv[0],
        )
    except SettingsError as error:
        raise StartupError(f"{error}; it is written as JSON") from error
    except (OSError, UnicodeDecodeError) as error:
        raise StartupError(f"the settings file cannot be read: {type(error).__name__}") from error
