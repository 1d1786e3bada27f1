"""Opens the services' databases for reading alone: checking must change nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, make_url


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """Connect to a database for as long as the block runs."""
    engine = _engine(url)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        path = quote(str(Path(parsed.database or "").absolute()))
        return create_engine(f"sqlite:///file:{path}?mode=ro&uri=true", connect_args={"timeout": 20})
    return create_engine(
        parsed.set(drivername="postgresql+psycopg"), execution_options={"postgresql_readonly": True}
    )
