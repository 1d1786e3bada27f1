"""What the `assay` command is told, and where that says everything is."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from assay.addresses import checked_address
from assay.databases import DATABASES
from assay.errors import OperationError
from common.settings import Environment, OptionalPath, OptionalSecret
from local_stack import service_secrets
from local_stack.files import StackFiles
from local_stack.ownership import RunningStack, is_owned
from local_stack.parts import stack_parts
from local_stack.settings import (
    GeoProvider,
    StackSettings,
    Stores,
    inherited_environment,
    load_stack_settings,
)
from local_stack.storage import storage_of
from log_service.settings import LogSettings

# what a deployment that is not the local stack has to keep by itself
OPERATORS_OWN = (
    "SIGNING_KEY_PASSPHRASE",
    "the secrets of the services",
    "passwords of databases, S3 and mail",
)


class OperationsSettings(BaseSettings):
    """Where the databases of a deployment are. With none named, the local stack's in VAR_DIR are meant."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    ai_service_database_url: OptionalSecret = Field(None, description="database of ai_service")
    user_service_database_url: OptionalSecret = Field(None, description="database of user_service")
    alert_service_database_url: OptionalSecret = Field(None, description="database of alert_service")
    log_service_database_url: OptionalSecret = Field(None, description="database of log_service")
    models_dir: OptionalPath = Field(
        None, description="where ai_service has its models; empty: they are not in the backup"
    )
    rules_file: OptionalPath = Field(None, description="YAML file of rules of ai_service, if it has one")
    backup_passphrase: OptionalSecret = Field(
        None, description="encrypts backups, 12 characters or more; lost, so are they"
    )


@dataclass(frozen=True)
class Deployment:
    """Where everything is that belongs together. `stack` is set for the local stack, whose secrets lie in files.

    `servers` is set while its databases do not answer: it is stopped, and keeps them in PostgreSQL (`database_server`).
    """

    urls: Mapping[str, str]
    s3: LogSettings
    models_dir: Path | None
    rules_file: Path | None
    stack: StackFiles | None = None
    servers: StackSettings | None = None

    @property
    def is_running(self) -> bool:
        """Whether it is a local stack that runs now."""
        return self.stack is not None and is_owned(self.stack)


def load_operations_settings() -> OperationsSettings:
    """Read the environment, then the file that the services read too; raises `OperationError`."""
    with _plain_refusals():
        return OperationsSettings(_env_file=_settings_file())


def _settings_file() -> str:
    """Return the file's name; raises `OperationError` where one is named that is not there, as services do."""
    named = os.environ.get("SETTINGS_FILE")
    if named and not Path(named).exists():
        raise OperationError(f"SETTINGS_FILE names a file that does not exist: {named}")
    return ".env" if named is None else named


@contextmanager
def _plain_refusals() -> Iterator[None]:
    """Name the settings that are wrong, without their values."""
    try:
        yield
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, item['loc'])).upper()}: {item['msg']}" for item in error.errors()]
        raise OperationError("These settings are wrong:", details=lines) from None
    except SettingsError as error:
        raise OperationError(f"A setting is wrong: {error}; it is written as JSON") from None
    except UnicodeDecodeError:
        raise OperationError("The settings file is no text in UTF-8.") from None


def load_deployment(settings: OperationsSettings) -> Deployment:
    """Return the deployment that `settings` name, or the local stack; raises `OperationError`."""
    named = {
        service: url.get_secret_value()
        for service in DATABASES
        if (url := getattr(settings, f"{service}_database_url")) is not None
    }
    if not named:
        return _local_stack(settings)
    missing = [f"{service.upper()}_DATABASE_URL" for service in DATABASES if service not in named]
    if missing:
        raise OperationError("These settings are missing:", details=missing)
    for service, url in named.items():
        checked_address(url, f"{service.upper()}_DATABASE_URL")
    with _plain_refusals():
        s3 = LogSettings(_env_file=_settings_file(), environment=Environment.DEVELOPMENT, failpoints="")
    return Deployment(named, s3, settings.models_dir, settings.rules_file)


def _local_stack(settings: OperationsSettings) -> Deployment:
    with _plain_refusals():
        stack_settings = load_stack_settings()
    files = StackFiles(stack_settings.var_dir.resolve())
    running = RunningStack.read(files) if is_owned(files) else None
    databases = running.databases if running is not None else {}
    if not databases:
        stack_settings = _with_its_store(stack_settings, files)
    # nothing is made here that is not there
    secrets = dict.fromkeys(service_secrets.NAMES, "") | service_secrets.kept(files)
    parts = {
        part.name: part for part in stack_parts(stack_settings, secrets, geoip_provider=GeoProvider.MOCK)
    }
    # a person's settings for AWS and a proxy are not for a server on this machine
    for name in os.environ.keys() - inherited_environment().keys():
        del os.environ[name]
    os.environ.update(inherited_environment())
    environment = parts["log_service"].environment
    s3 = {name.lower(): value for name, value in environment.items() if name.startswith("S3_")}
    return Deployment(
        urls=databases or storage_of(stack_settings, secrets).databases,
        s3=LogSettings.model_validate({**LogSettings.model_construct().model_dump(), **s3}),
        models_dir=files.models,
        rules_file=settings.rules_file,
        stack=files,
        servers=None if databases or stack_settings.stores is Stores.EMBEDDED else stack_settings,
    )


def _with_its_store(settings: StackSettings, files: StackFiles) -> StackSettings:
    """Return `settings` with the store that holds the data of a stopped stack, unless they name one.

    Raises `OperationError` when both do.
    """
    if "stores" in settings.model_fields_set:
        return settings
    on_servers = files.servers.is_dir() and any(files.servers.iterdir())
    in_files = [path for service in DATABASES if (path := files.database(service)).exists()]
    if on_servers and in_files:
        raise OperationError(
            f"{files.root} has two kinds of databases, and nothing says which are meant.",
            details=[
                f"STORES=servers: PostgreSQL, in {files.servers}",
                f"STORES=embedded: SQLite, in {', '.join(path.name for path in in_files)}",
            ],
        )
    return settings.model_copy(update={"stores": Stores.SERVERS}) if on_servers else settings
