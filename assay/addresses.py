"""Addresses of databases, as people write them."""

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from assay.errors import OperationError

FORMS = ("sqlite:///FILE", "postgresql://USER@HOST:5432/DATABASE")
ENGINES = ("sqlite", "postgresql")


def checked_address(text: str, named: str) -> URL:
    """Return the address in `text`; raises `OperationError`, which says how it was `named`, and no password."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):  # the second for a port that is no number
        raise OperationError(f"{named} is no address of a database.", details=FORMS) from None
    if url.get_backend_name() not in ENGINES:
        raise OperationError(
            f"{named} names a database of {url.get_backend_name()}; Assay keeps its data in SQLite or PostgreSQL.",
            details=FORMS,
        )
    return url
