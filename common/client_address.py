"""From which address a request comes."""

from fastapi import Request


def client_address(request: Request) -> str:
    """Return the address of whoever sent `request`; empty where it is not known."""
    return "" if request.client is None else request.client.host
