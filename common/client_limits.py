"""How much a client may send in what time, and what it is answered beyond that."""

from dataclasses import dataclass, field
from typing import Final

from common.errors import PlatformError
from common.lingering import LingerLimits

LINE_ENDS: Final = 4  # what separates a header's name, its value and the next header
_NO_UPGRADE: Final = (
    "A connection cannot be upgraded here; send no Upgrade header. Java's HttpClient does, unless it is built with"
    " version(HttpClient.Version.HTTP_1_1)."
)


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What a client may take: seconds for a head and for a body, bytes of a head, number of headers; and at the end."""

    head_s: float = 10.0
    body_s: float = 30.0
    head_bytes: int = 16_384
    headers: int = 100
    linger: LingerLimits = field(default_factory=LingerLimits)


class HeadRefusedError(PlatformError):
    """The request line or the headers cannot be read, or Host is not there exactly once."""

    status_code = 400
    type = "bad-request"
    title = "The request cannot be read"


class RequestTimeoutError(PlatformError):
    """The client took too long to send its request."""

    status_code = 408
    type = "request-timeout"
    title = "The request took too long to arrive"


class HeadTooLargeError(PlatformError):
    """The request line and the headers are longer, or more, than this service reads."""

    status_code = 431
    type = "head-too-large"
    title = "The request line and the headers are too long or too many"


def check_head(
    url: bytes, headers: list[tuple[bytes, bytes]], limits: ConnectionLimits, *, upgrades: bool
) -> None:
    """Raise one of the errors above for a head that is too long, does not name one host, or asks for an upgrade."""
    length = len(url)
    hosts = 0
    codings = []
    for name, value in headers:
        length += len(name) + len(value) + LINE_ENDS
        hosts += name == b"host"
        if name == b"transfer-encoding":
            codings.append(value.strip().lower())
    if length > limits.head_bytes or len(headers) > limits.headers:
        raise HeadTooLargeError
    if hosts != 1:
        raise HeadRefusedError("Host is needed exactly once.")
    if codings not in ([], [b"chunked"]):  # the parser would pass on what is still encoded
        raise HeadRefusedError("Transfer-Encoding is taken as chunked only.")
    if upgrades:  # the parser would take the body for another protocol
        raise HeadRefusedError(_NO_UPGRADE)
