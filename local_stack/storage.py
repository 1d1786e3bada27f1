"""Where the services of the stack keep their state. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr
from sqlalchemy import make_url

from local_stack.files import StackFiles
from local_stack.servers.postgresql import SUPERUSER
from local_stack.settings import LOOPBACK, StackSettings, Stores

WITH_DATABASE = ("user_service", "log_service", "alert_service", "ai_service")


@dataclass(frozen=True)
class Storage:
    """The address of each service's database and of the Valkey they share, if they do.

    `admin_url` is the PostgreSQL in which the databases are made; empty with SQLite. `folder` takes the small files
    that belong to these databases and no others.
    """

    databases: Mapping[str, str] = field(repr=False)
    folder: Path
    admin_url: str = field(default="", repr=False)
    valkey_url: str = field(default="", repr=False)


def storage_of(settings: StackSettings, secrets: Mapping[str, str]) -> Storage:
    """Return where the stack of `settings` keeps its state."""
    files = StackFiles(settings.var_dir.resolve())
    if settings.stores is Stores.EMBEDDED:
        databases = {service: f"sqlite:///{files.database(service)}" for service in WITH_DATABASE}
        return Storage(databases, files.root)
    admin_url = _given(settings.postgresql_url) or (
        f"postgresql://{SUPERUSER}:{secrets['POSTGRESQL_PASSWORD']}"
        f"@{LOOPBACK}:{settings.port('postgresql_port')}/postgres"
    )
    valkey_url = _given(settings.valkey_url) or (
        f"valkey://:{secrets['VALKEY_PASSWORD']}@{LOOPBACK}:{settings.port('valkey_port')}/0"
    )
    databases = {service: _own(admin_url, service, secrets) for service in WITH_DATABASE}
    return Storage(databases, files.servers, admin_url, valkey_url)


def _given(url: SecretStr | None) -> str:
    return "" if url is None else url.get_secret_value()


def _own(admin_url: str, service: str, secrets: Mapping[str, str]) -> str:
    """Return the address of a service's own database in the same PostgreSQL, as a role of its own."""
    name = f"assay_{service}"
    password = secrets[f"{service.upper()}_DATABASE_PASSWORD"]
    own = make_url(admin_url).set(drivername="postgresql", username=name, password=password, database=name)
    return own.render_as_string(hide_password=False)
