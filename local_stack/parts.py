"""What the stack is made of: for each part the command, its environment, its ports and how to see that it is ready. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from local_stack.files import StackFiles
from local_stack.service_secrets import OF_SERVICES
from local_stack.settings import LOOPBACK, GeoProvider, StackSettings, Stores
from local_stack.storage import Storage, storage_of

RELOADED_DATA = ("*.yaml", "*.html", "*.txt")  # read by services beside their code
BUCKET = "assay-archive"
# the S3-compatible server checks no credentials, but boto3 wants some
ACCESS_KEY_ID = "local-stack"
SECRET_ACCESS_KEY = "local-stack"  # noqa: S105 - see above
MAIL_SENDER = "Assay <alerts@assay.example>"


@dataclass(frozen=True)
class Part:
    """One process of the stack. `ports` are by the name of the setting that chooses each; the first is its own.

    `server_url` is how PostgreSQL and Valkey are asked; all others answer HTTP.
    """

    name: str
    summary: str
    command: tuple[str, ...]
    ports: Mapping[str, int]
    ready_path: str
    page: str | None
    environment: Mapping[str, str] = field(repr=False)
    server_url: str = field(default="", repr=False)

    @property
    def url(self) -> str:
        """Return where the part answers, without a password."""
        scheme = self.server_url.partition(":")[0] or "http"
        return f"{scheme}://{LOOPBACK}:{next(iter(self.ports.values()))}"


def stack_parts(
    settings: StackSettings,
    secrets: Mapping[str, str],
    *,
    geoip_provider: GeoProvider,
    reload: bool = False,
) -> tuple[Part, ...]:
    """Return all parts, each after those it needs: stopping goes the other way round.

    user_service needs nobody: what it has to tell the others waits in its database, also while all is stopped.
    """
    return _Layout(settings, secrets, storage_of(settings, secrets), geoip_provider, reload).parts()


@dataclass(frozen=True)
class _Layout:
    settings: StackSettings
    secrets: Mapping[str, str] = field(repr=False)
    storage: Storage
    geoip_provider: GeoProvider
    reload: bool

    @property
    def files(self) -> StackFiles:
        return StackFiles(self.settings.var_dir.resolve())

    def port(self, setting: str) -> int:
        return self.settings.port(setting)

    def url(self, service: str) -> str:
        return f"http://{LOOPBACK}:{self.port(service + '_port')}"

    def parts(self) -> tuple[Part, ...]:
        return (
            *self._servers(),
            self._object_store(),
            self._mailbox(),
            self._user_service(),
            self._external_apis_services(),
            self._log_service(),
            self._alert_service(),
            self._ai_service(),
        )

    def _servers(self) -> tuple[Part, ...]:
        """Return those that keep the state and were not started by somebody else."""
        if self.settings.stores is Stores.EMBEDDED:
            return ()
        own = {
            "postgresql": (self.settings.postgresql_url, self.storage.admin_url, "the services' databases"),
            "valkey": (self.settings.valkey_url, self.storage.valkey_url, "what processes share"),
        }
        return tuple(
            self._server(name, summary, url) for name, (given, url, summary) in own.items() if given is None
        )

    def _server(self, name: str, summary: str, url: str) -> Part:
        port = self.port(f"{name}_port")
        password = f"{name.upper()}_PASSWORD"
        return Part(
            name=name,
            summary=summary,
            command=(
                f"local_stack.servers.{name}",
                *("--data", str(self.storage.folder / name), "--port", str(port)),
            ),
            ports={f"{name.upper()}_PORT": port},
            ready_path="",
            page=None,
            environment={password: self.secrets[password]},
            server_url=url,
        )

    def _object_store(self) -> Part:
        port = self.port("object_store_port")
        return Part(
            name="object_store",
            summary="S3 server, files in objects/",
            command=("localbucket", "--host", LOOPBACK, "--port", str(port), str(self.files.objects)),
            ports={"OBJECT_STORE_PORT": port},
            ready_path="/",
            page=None,
            environment={},
        )

    def _mailbox(self) -> Part:
        port, smtp_port = self.port("mailbox_port"), self.port("mailbox_smtp_port")
        return Part(
            name="mailbox",
            summary=f"shows mails (SMTP: {smtp_port})",
            command=(
                *("local_stack.mailbox", "--directory", str(self.files.mails)),
                *("--port", str(port), "--smtp-port", str(smtp_port)),
            ),
            ports={"MAILBOX_PORT": port, "MAILBOX_SMTP_PORT": smtp_port},
            ready_path="/ready",
            page="/",
            environment={},
        )

    def _user_service(self) -> Part:
        return self._service(
            "user_service",
            "institutions, users, tokens",
            client_secret="",
            DATABASE_URL=self.storage.databases["user_service"],
            ALERT_SERVICE_URL=self.url("alert_service"),
            LOG_SERVICE_URL=self.url("log_service"),
            REGISTRATION="open",  # one machine: who asks is who runs it, and the demo has nobody to read mails
            REGISTRATION_TIER="enterprise",  # the demo sends more than a starter may
            **{name: self.secrets[name] for name in OF_SERVICES},
        )

    def _external_apis_services(self) -> Part:
        return self._service(
            "external_apis_services",
            f"{_GEOIP_WORDS[self.geoip_provider]}; sample currency rates",
            client_secret=self.secrets["EXTERNAL_APIS_SERVICE_SECRET"],
            GEOIP_PROVIDER=self.geoip_provider.value,
            GEOIP_COUNTRY_DB=str(self.files.geoip / "geo-whois-asn-country.mmdb"),
            GEOIP_ASN_DB=str(self.files.geoip),
        )

    def _log_service(self) -> Part:
        return self._service(
            "log_service",
            "the audit archive in S3",
            client_secret=self.secrets["LOG_SERVICE_SECRET"],
            DATABASE_URL=self.storage.databases["log_service"],
            S3_ENDPOINT_URL=self.url("object_store"),
            S3_BUCKET=BUCKET,
            S3_ACCESS_KEY_ID=ACCESS_KEY_ID,
            S3_SECRET_ACCESS_KEY=SECRET_ACCESS_KEY,
            S3_ADDRESSING_STYLE="path",
            S3_CREATE_BUCKET="true",
        )

    def _alert_service(self) -> Part:
        return self._service(
            "alert_service",
            "alerts and their e-mails",
            client_secret=self.secrets["ALERT_SERVICE_SECRET"],
            DATABASE_URL=self.storage.databases["alert_service"],
            SMTP_HOST=LOOPBACK,
            SMTP_PORT=str(self.port("mailbox_smtp_port")),
            SMTP_SECURITY="none",
            MAIL_FROM=MAIL_SENDER,
            ACCOUNT_API_URL=self.url("user_service"),
            DECISION_LINK=self.url("ai_service") + "/v1/decisions/{decision_id}",
        )

    def _ai_service(self) -> Part:
        return self._service(
            "ai_service",
            "scores: POST /v1/score",
            client_secret=self.secrets["AI_SERVICE_SECRET"],
            DATABASE_URL=self.storage.databases["ai_service"],
            MODELS_DIR=str(self.files.models),
            VELOCITY_SNAPSHOT=str(self.storage.folder / "velocity.npz"),
            ALERT_SERVICE_URL=self.url("alert_service"),
            LOG_SERVICE_URL=self.url("log_service"),
            EXTERNAL_APIS_SERVICES_URL=self.url("external_apis_services"),
            WORKERS=str(self.settings.ai_workers),
        )

    def _service(self, name: str, summary: str, *, client_secret: str, **environment: str) -> Part:
        port = self.port(f"{name}_port")
        return Part(
            name=name,
            summary=summary,
            command=self._command(name, port),
            ports={f"{name.upper()}_PORT": port},
            ready_path="/ready",
            page="/docs",
            environment={
                "HOST": LOOPBACK,
                "PORT": str(port),
                "USER_SERVICE_URL": self.url("user_service"),
                "SERVICE_CLIENT_SECRET": client_secret,
                "ACCESS_FOLDER": str(self.storage.folder / "access"),
                "VALKEY_URL": self.storage.valkey_url,
                "WORKERS": "1",
                **environment,
            },
        )

    def _command(self, service: str, port: int) -> tuple[str, ...]:
        if not self.reload:
            return (service, "--port", str(port))
        watched = ["--reload-dir", service, "--reload-dir", "common"]
        for pattern in RELOADED_DATA:
            watched += ["--reload-include", pattern]
        return (
            "uvicorn",
            f"{service}.main:app",
            "--host",
            LOOPBACK,
            "--port",
            str(port),
            "--reload",
            *watched,
        )


_GEOIP_WORDS = {
    GeoProvider.DATABASE: "GeoIP: real countries",
    GeoProvider.MOCK: "GeoIP: made-up places (mock)",
}
