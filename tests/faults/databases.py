"""Opens the services' databases for reading alone: checking must change nothing."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

from local_stack.reading import reading_engine


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """Connect to a database for as long as the block runs."""
    engine = reading_engine(url)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()
