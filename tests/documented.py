"""Compares what a service really answers with its published API document.

`open_app` does it for every answer of every test in the test's process, hostile ones included.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from starlette.types import Message, Scope, Send

from common.errors import PROBLEM_TYPE

FOLDER = Path(__file__).parents[1] / "docs" / "openapi"
# what any address may answer, before its route is asked or when something breaks: the document says so once
ANYWHERE = frozenset(
    {
        ("405", "method-not-allowed"),
        ("413", "body-too-large"),
        ("500", "internal"),
    }
)
Paths = Mapping[str, Mapping[str, Any]]


@cache
def published(title: str) -> Paths | None:
    """Return the paths of the published document of an application, None for one that has none."""
    path = FOLDER / f"{title.removeprefix('Assay ')}.json"
    return json.loads(path.read_text())["paths"] if path.exists() else None


class Answers:
    """Watches the answers of one application and keeps, in words, those that its document does not know."""

    def __init__(self, paths: Paths | None) -> None:
        self._paths = paths
        self.undocumented: set[str] = set()

    def watched(self, scope: Scope, send: Send) -> Send:
        """Return a `send` that looks at an answer while it passes it on."""
        if self._paths is None:
            return send
        started: list[Message] = []
        body = bytearray()

        async def look(message: Message) -> None:
            if message["type"] == "http.response.start":
                started.append(message)
            elif message["type"] == "http.response.body":
                body.extend(message.get("body", b""))
                if not message.get("more_body", False):
                    self._compare(scope, started[0], bytes(body))
            await send(message)

        return look

    def _compare(self, scope: Scope, start: Message, body: bytes) -> None:
        path = getattr(scope.get("route"), "path", None)
        operation = (self._paths or {}).get(str(path).replace(":path}", "}"), {}).get(scope["method"].lower())
        if operation is None:
            return
        status, type_ = str(start["status"]), _problem_type(start, body)
        if (status, type_) in ANYWHERE:
            return
        response = operation["responses"].get(status)
        if response is None or (type_ is not None and type_ not in _types(response)):
            self.undocumented.add(f"{scope['method']} {path}: {status} {type_ or ''}".rstrip())


def _problem_type(start: Message, body: bytes) -> str | None:
    if (b"content-type", b"application/problem+json") not in [
        (name.lower(), value) for name, value in start["headers"]
    ]:
        return None
    return str(json.loads(body)["type"]).removeprefix(PROBLEM_TYPE)


def _types(response: Mapping[str, Any]) -> set[str]:
    problem = response.get("content", {}).get("application/problem+json", {})
    return set(problem.get("examples", {}))
