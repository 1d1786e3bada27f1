"""A whole stack in which every dependency is reached through a fault proxy."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from local_stack.accounts import Login, access_token, register_sandbox
from local_stack.files import StackFiles
from local_stack.parts import BUCKET, Part
from local_stack.settings import GeoProvider, Stores
from local_stack.stack import Stack, owned_stack
from tests.e2e.stacks import free_ports, stack_settings
from tests.faults.evidence import Scope
from tests.faults.kit import FaultKit, Route, fault_kit
from tests.faults.resources import held_by
from tests.faults.sources import Sources
from tests.models import save_test_model

SERVICES = ("user_service", "external_apis_services", "log_service", "alert_service", "ai_service")
S3, SMTP, POSTGRESQL, VALKEY = "s3", "smtp", "postgresql", "valkey"
WITH_DATABASE = ("user_service", "log_service", "alert_service", "ai_service")
# by dependency: who reaches it, and by which setting
REACHED_BY: Mapping[str, tuple[tuple[str, ...], str]] = {
    "user_service": (
        ("external_apis_services", "log_service", "alert_service", "ai_service"),
        "USER_SERVICE_URL",
    ),
    "external_apis_services": (("ai_service",), "EXTERNAL_APIS_SERVICES_URL"),
    "alert_service": (("ai_service", "user_service"), "ALERT_SERVICE_URL"),
    "log_service": (("ai_service", "user_service"), "LOG_SERVICE_URL"),
    S3: (("log_service",), "S3_ENDPOINT_URL"),
    SMTP: (("alert_service",), "SMTP_PORT"),
}
SERVERS_REACHED_BY: Mapping[str, tuple[tuple[str, ...], str]] = {
    POSTGRESQL: (WITH_DATABASE, "DATABASE_URL"),
    VALKEY: (SERVICES, "VALKEY_URL"),
}


@dataclass
class FaultyStack:
    """The stack, the kit that troubles it, and environment that chosen services get beside their own."""

    stack: Stack
    kit: FaultKit
    _parts: tuple[Part, ...] = field(init=False)

    def __post_init__(self) -> None:
        self._parts = self.stack.parts

    @property
    def sources(self) -> Sources:
        """Return where the checker looks; it goes past the proxies."""
        files, databases = self.stack.files, self.stack.storage.databases
        return Sources(
            database_url=databases["ai_service"],
            s3_endpoint_url=self.stack.url("object_store"),
            s3_bucket=BUCKET,
            mailbox=files.mails,
            alert_database_url=databases["alert_service"],
            log_database_url=databases["log_service"],
            user_database_url=databases["user_service"],
        )

    def new_caller(self, name: str) -> "Caller":
        """Register an institution of its own, so that nothing of others is counted."""
        users = self.stack.url("user_service")
        login = register_sandbox(users, name=name)
        return Caller(login, access_token(users, login))

    def start_part(self, name: str, **environment: str) -> None:
        """Start a service, with `environment` beside its own."""
        self.stack.parts = tuple(
            _with(part, environment) if part.name == name else part for part in self._parts
        )
        self.stack.start_part(name)

    def held(self) -> dict[str, dict[str, int]]:
        """Return what every service holds now."""
        return {name: held_by(self.stack.children[name].pid) for name in SERVICES}


@dataclass(frozen=True)
class Caller:
    """An institution's admin with a token."""

    login: Login
    token: str

    @property
    def scope(self) -> Scope:
        """Return what is the caller's own."""
        return Scope(self.login.institution_id, self.login.email)


@contextmanager
def faulty_stack(
    var_dir: Path,
    *,
    environment: Mapping[str, Mapping[str, str]] | None = None,
    stores: Stores = Stores.EMBEDDED,
) -> Iterator[FaultyStack]:
    """Yield a stack that is ready, with a proxy in front of each dependency and the kit's mail server.

    `environment` is what single services get beside their own.
    """
    save_test_model(StackFiles(var_dir).models)
    settings = stack_settings(var_dir, stores=stores)
    reached_by = {**REACHED_BY, **({} if stores is Stores.EMBEDDED else SERVERS_REACHED_BY)}
    smtp_port, *ports = free_ports(1 + len(reached_by))
    listening = dict(zip(reached_by, ports, strict=True))
    with ExitStack() as running, owned_stack(settings, geoip_provider=GeoProvider.MOCK) as stack:
        targets = {
            **{part.name: next(iter(part.ports.values())) for part in stack.parts},
            S3: settings.object_store_port,
            SMTP: smtp_port,
        }
        routes = [Route(name, port, targets[name]) for name, port in listening.items()]
        kit = running.enter_context(fault_kit(routes, mails=stack.files.mails, smtp_port=smtp_port))
        stack.parts = tuple(
            _with(_through_proxies(part, reached_by, listening), (environment or {}).get(part.name, {}))
            for part in stack.parts
        )
        stack.start()
        stack.await_ready()
        yield FaultyStack(stack, kit)


def _through_proxies(
    part: Part, reached_by: Mapping[str, tuple[tuple[str, ...], str]], listening: Mapping[str, int]
) -> Part:
    environment = dict(part.environment)
    for name, (callers, setting) in reached_by.items():
        if part.name in callers:
            port = listening[name]
            is_port = setting.endswith("_PORT")
            environment[setting] = str(port) if is_port else _moved(environment[setting], port)
    return replace(part, environment=environment)


def _moved(url: str, port: int) -> str:
    """Return `url` with another port."""
    parsed = urlsplit(url)
    user, at, _ = parsed.netloc.rpartition("@")
    return parsed._replace(netloc=f"{user}{at}127.0.0.1:{port}").geturl()


def _with(part: Part, environment: Mapping[str, str]) -> Part:
    return replace(part, environment={**part.environment, **environment})
