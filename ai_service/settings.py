"""The settings of ai_service."""

from pathlib import Path

from pydantic import Field, SecretStr

from common.db_settings import ReplicatedSettings
from common.settings import OptionalPath, unless_shared


class AiSettings(ReplicatedSettings):
    """What ai_service is told."""

    port: int = Field(8000, ge=0, le=65535, description="port to listen on")
    database_url: SecretStr = Field(
        SecretStr("sqlite:///var/ai_service.db"), description="sqlite:///FILE or postgresql://..."
    )
    models_dir: Path = Field(
        Path("var/models"), description="where trained models are; current.json names the one in use"
    )
    rules_file: OptionalPath = Field(None, description="YAML file of rules; empty: the starter rules")
    velocity_snapshot: Path = Field(Path("var/velocity.npz"), description="where the velocity state is kept")
    velocity_snapshot_s: float = Field(60.0, gt=0, description="seconds between two snapshots of it")
    alert_service_url: str = Field("http://127.0.0.1:8003", description="where alerts are raised")
    log_service_url: str = Field("http://127.0.0.1:8004", description="where decisions are archived")
    external_apis_services_url: str = Field(
        "http://127.0.0.1:8005", description="where GeoIP and rates come from"
    )
    deadline_ms: int = Field(300, ge=10, le=10_000, description="longest a scoring request may take")
    geoip_timeout_ms: int = Field(50, ge=1, le=1000, description="longest a GeoIP look-up may take")
    geoip_cache_s: float = Field(3600.0, ge=0, description="seconds a found location is remembered")
    geoip_cache_size: int = Field(100_000, ge=1, description="how many locations are remembered")
    delivery_timeout_ms: int = Field(
        150, ge=10, le=5000, description="longest a request waits for a delivery"
    )
    rates_refresh_s: float = Field(
        300.0, gt=0, description="seconds between two fetches of the currency rates"
    )
    hot_door: bool = Field(
        True, description="answer POST /v1/score in front of FastAPI; false sends all of it through the route"
    )
    max_waiting: int = Field(1024, ge=1, description="how many transactions may wait to be saved before 503")

    @property
    def may_have_others(self) -> bool:
        """Say whether other processes may score over the same database."""
        return self.why_one_process() is None

    def why_one_process(self) -> str | None:
        """Velocity, usage and idempotency are the same for all who share both."""
        return unless_shared(self.database_url, self.valkey_url)
