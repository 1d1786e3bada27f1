"""What the usual way is told."""

from pathlib import Path

from pydantic import SecretStr
from pydantic_settings import BaseSettings


class ScoringSettings(BaseSettings):
    """Where the scoring service's parts are."""

    database_url: str
    model_folder: Path
    rules_file: Path
    user_service_url: str
    geoip_url: str
    alert_url: str
    log_url: str
    client_secret: SecretStr
    client_per_call: bool = False


class LogSettings(BaseSettings):
    """Where the log service puts its objects."""

    s3_endpoint_url: str
    s3_bucket: str
    s3_access_key_id: str
    s3_secret_access_key: SecretStr
