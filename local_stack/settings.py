"""What the local stack is told."""

import os
from enum import StrEnum
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from common.settings import OptionalSecret

LOOPBACK = "127.0.0.1"
HERE = (LOOPBACK, "localhost")


class GeoProvider(StrEnum):
    """Where the stack's locations come from."""

    DATABASE = "database"
    MOCK = "mock"


class Stores(StrEnum):
    """What the stack's state is kept in."""

    EMBEDDED = "embedded"
    SERVERS = "servers"


class StackSettings(BaseSettings):
    """Where the stack keeps its data and which ports it takes."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    var_dir: Path = Field(
        Path("var"), description="everything the stack keeps: databases, objects, mails, logs"
    )
    port_offset: int = Field(0, ge=0, le=50_000, description="added to every port of the stack")
    ai_service_port: int = Field(8000, ge=1, le=65_535, description="port of ai_service")
    user_service_port: int = Field(8001, ge=1, le=65_535, description="port of user_service")
    alert_service_port: int = Field(8003, ge=1, le=65_535, description="port of alert_service")
    log_service_port: int = Field(8004, ge=1, le=65_535, description="port of log_service")
    external_apis_services_port: int = Field(
        8005, ge=1, le=65_535, description="port of external_apis_services"
    )
    object_store_port: int = Field(8010, ge=1, le=65_535, description="port of the S3-compatible server")
    mailbox_port: int = Field(8026, ge=1, le=65_535, description="port of the page that shows the mails")
    mailbox_smtp_port: int = Field(8025, ge=1, le=65_535, description="port the mails are delivered to")
    stores: Stores = Field(
        Stores.EMBEDDED,
        description="embedded (SQLite, and what ai_service holds itself) or servers (PostgreSQL and Valkey)",
    )
    postgresql_url: OptionalSecret = Field(
        None,
        description="with STORES=servers: a PostgreSQL in which this user may make roles and databases; "
        "empty: one is started, with its data in VAR_DIR",
    )
    valkey_url: OptionalSecret = Field(
        None, description="with STORES=servers: a Valkey; empty: one is started, with its data in VAR_DIR"
    )
    postgresql_port: int = Field(8032, ge=1, le=65_535, description="port of the PostgreSQL that is started")
    valkey_port: int = Field(8079, ge=1, le=65_535, description="port of the Valkey that is started")
    ai_workers: int = Field(
        1, ge=1, le=64, description="with STORES=servers: how many processes of ai_service serve its port"
    )
    geoip_provider: GeoProvider | None = Field(
        None, description="database or mock; unset: database for `make run`, mock for `make demo`"
    )
    ready_timeout_s: float = Field(120.0, gt=0, description="seconds the parts get to become ready")
    stop_timeout_s: float = Field(20.0, gt=0, description="seconds a part gets to stop before it is killed")

    def port(self, setting: str) -> int:
        """Return the port that a setting chooses, moved with all others."""
        chosen: int = getattr(self, setting)
        return chosen + self.port_offset


def load_stack_settings() -> StackSettings:
    """Read the environment, then the file that the services read too, then the defaults."""
    return StackSettings(_env_file=os.environ.get("SETTINGS_FILE", ".env"))


def inherited_environment() -> dict[str, str]:
    """Return what the parts inherit; what the stack decides for them is laid over it.

    They meet on this machine, never through a proxy, and their S3 server is no account at AWS: boto3 would take both
    from the environment.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    direct = _without_proxy(kept.get("no_proxy") or kept.get("NO_PROXY") or "")
    return {**kept, "no_proxy": direct, "NO_PROXY": direct}


def _without_proxy(asked_for: str) -> str:
    if asked_for.strip() == "*":
        return "*"  # everything; beside other names it would mean nothing
    return ",".join(filter(None, (asked_for, *HERE)))
