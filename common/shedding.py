"""Refuses requests for which there is no place, at the least cost: what refusals cost is missing for the work."""

from collections import Counter
from contextvars import copy_context
from functools import lru_cache
from typing import Final

import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from common.errors import OverloadedError, PlatformError, Rendered, render_problem
from common.headers import SECURITY_HEADERS
from common.ids import new_id
from common.logging import start_request
from common.metrics import REQUESTS

Headers = list[tuple[bytes, bytes]]
Route = tuple[bytes, bytes]  # method and target, as they stand in the request line
_ID: Final = "req_" + "0" * 26
_COMMON: Final = b"".join(
    f"{name.lower()}: {value}\r\n".encode()
    for name, value in (*SECURITY_HEADERS, ("Cache-Control", "no-store"))
)
_LENGTH: Final = b"\r\ncontent-length: "
_LENGTH_DIGITS: Final = 8
_LONGEST_HEAD: Final = 4096  # of those that are remembered
_ODD: Final = (b"transfer-encoding", b"expect", b"x-request-id", b"upgrade")
_log = structlog.get_logger()


class Shedding:
    """Knows the answer to everybody for whom there is no place, and counts how often it was given."""

    def __init__(self) -> None:
        self._counts: Counter[Route] = Counter()
        self._headers: Headers | None = None
        self._pieces: list[bytes] = []

    def count(self, route: Route) -> None:
        """Count one refusal of a route that is known."""
        self._counts[route] += 1

    def refusal(self, common: Headers) -> bytes:
        """Return the answer under a new request id; `common` are the server's own headers, new ones each second."""
        if common is not self._headers:
            answer = answer_bytes(OverloadedError(), _ID, common, close=False)
            self._headers, self._pieces = common, answer.split(_ID.encode())
        return new_id("req").encode().join(self._pieces)

    def report(self) -> None:
        """Write one line for all that were refused: a line each would cost more than the refusals."""
        if not self._counts:
            return
        _log.warning("requests.shed", count=self._counts.total())
        for (method, target), times in self._counts.items():
            REQUESTS.labels(method.decode(), target.decode(), OverloadedError.status_code).inc(times)
        self._counts.clear()


def answer_bytes(error: PlatformError, request_id: str, common: Headers, *, close: bool) -> bytes:
    """Return `error` as a whole HTTP/1.1 answer."""
    answer = copy_context().run(_rendered, error, request_id)
    own = {**answer.headers, "X-Request-ID": request_id}
    if close:
        own["Connection"] = "close"
    lines = [b"%b: %b\r\n" % header for header in common]
    lines += [f"{name.lower()}: {value}\r\n".encode() for name, value in own.items()]
    return b"".join((STATUS_LINE[answer.status], _COMMON, *lines, b"\r\n", answer.body))


def _rendered(error: PlatformError, request_id: str) -> Rendered:
    start_request(request_id)
    return render_problem(error)


def is_one_whole_request(data: bytes) -> bool:
    """Say whether `data`, which begins with a request line, is exactly one request of the plainest kind.

    A wrong yes would take a part of a body for the next request. So whatever could mean another length, wants an
    answer of its own, or is not written as clients write it, is a no.
    """
    end = data.find(b"\r\n\r\n", 0, _LONGEST_HEAD) + len(b"\r\n\r\n")
    return _length_after(data[:end]) == len(data) - end


@lru_cache(maxsize=1024)  # those who come again and again send the same head
def _length_after(head: bytes) -> int | None:
    """Return how long the body is, None where the head is not plain."""
    head = head.lower()
    start = head.find(_LENGTH) + len(_LENGTH)
    length = head[start : head.find(b"\r\n", start)]
    is_plain = (
        length.isdigit()
        and len(length) <= _LENGTH_DIGITS
        and head.count(b"content-length") == 1
        and head.count(b"\r\n\r\n") == 1
        and b"\n" not in head.replace(b"\r\n", b"")
        and not any(word in head for word in _ODD)
        and (b"connection:" not in head or b"\r\nconnection: keep-alive\r\n" in head)
    )
    return int(length) if is_plain else None
