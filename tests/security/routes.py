"""The routes a service really has, found in its application."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from fastapi import APIRouter, FastAPI
from starlette.routing import BaseRoute, Route, WebSocketRoute

WEBSOCKET = "WEBSOCKET"


class Endpoint(NamedTuple):
    """A method and a path as they are written down: `GET /v1/alerts/{alert_id}`."""

    method: str
    path: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def endpoints(app: FastAPI) -> set[Endpoint]:
    """Return everything that `app` answers; raises `TypeError` for a kind of route nobody has thought about."""
    return set(_endpoints(app.routes))


def _endpoints(routes: Iterable[BaseRoute]) -> Iterator[Endpoint]:
    for route in routes:
        if isinstance(route, Route):
            yield from (Endpoint(method, route.path) for method in route.methods or ())
        elif isinstance(route, WebSocketRoute):
            yield Endpoint(WEBSOCKET, route.path)
        elif isinstance(router := getattr(route, "original_router", None), APIRouter):
            yield from _endpoints(router.routes)
        else:
            raise TypeError(
                f"{type(route).__name__} is a kind of route that the authorization test does not know"
            )
