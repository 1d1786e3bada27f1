"""Asks a part whether it can do its work: over HTTP, or as a client of PostgreSQL or Valkey."""

import httpx
import psycopg
from valkey import Valkey
from valkey.exceptions import ValkeyError

from local_stack.parts import Part

ASK_TIMEOUT_S = 2


def is_ready(part: Part) -> bool:
    """Say whether it answers that it is."""
    if part.server_url.startswith("postgresql:"):
        return _postgresql_answers(part.server_url)
    if part.server_url:
        return _valkey_answers(part.server_url)
    try:
        with httpx.Client(trust_env=False, timeout=ASK_TIMEOUT_S) as client:
            return client.get(part.url + part.ready_path).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _postgresql_answers(url: str) -> bool:
    try:
        with psycopg.connect(url, connect_timeout=ASK_TIMEOUT_S) as connection:
            connection.execute("SELECT 1")
    except psycopg.Error:
        return False
    return True


def _valkey_answers(url: str) -> bool:
    try:
        with Valkey.from_url(
            url, socket_timeout=ASK_TIMEOUT_S, socket_connect_timeout=ASK_TIMEOUT_S
        ) as client:
            return bool(client.ping())
    except (ValkeyError, OSError):
        return False
