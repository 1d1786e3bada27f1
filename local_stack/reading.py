"""Opens the services' databases for reading alone, whichever engine they are in."""

from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Engine, create_engine, make_url

from common.row_security import EVERY_TENANT_SETTING, ON

BUSY_TIMEOUT_S = 20
CONNECT_TIMEOUT_S = 5
# as those that work for all institutions say it: row-level security shows nobody else all rows
_READING = f"-c default_transaction_read_only=on -c {EVERY_TENANT_SETTING}={ON}"


def reading_engine(url: str) -> Engine:
    """Return an engine for `sqlite:///FILE` or `postgresql://...` that changes nothing."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        path = quote(str(Path(parsed.database or "").absolute()))
        connect = {"timeout": BUSY_TIMEOUT_S}
        return create_engine(f"sqlite:///file:{path}?mode=ro&uri=true", connect_args=connect)
    return create_engine(
        parsed.set(drivername="postgresql+psycopg"),
        connect_args={"options": _READING, "connect_timeout": CONNECT_TIMEOUT_S},
    )
