"""What a fault proxy can do to the connections that go through it."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Mode(StrEnum):
    """Kinds of fault."""

    PASS = "pass"
    REFUSE = "refuse"  # nobody listens; what was open is reset
    RESET = "reset"  # a reset: at once, or behind `after_bytes` of the answer
    SILENT = "silent"  # half-open: connections are taken and nothing goes on, until the fault ends
    SLOW = "slow"  # every exchange begins `delay_s` (give or take `jitter_s`) late
    CUT_REQUEST = "cut_request"  # closed behind `after_bytes` of what the client sent
    CUT_ANSWER = "cut_answer"  # closed behind `after_bytes` of the answer
    ANSWER = "answer"  # the other side is never asked; one of `answers` comes instead, then the end


@dataclass(frozen=True)
class Fault:
    """One fault and its numbers. `answers` take turns, one for each connection."""

    mode: Mode
    after_bytes: int = 0
    delay_s: float = 0.0
    jitter_s: float = 0.0
    answers: tuple[bytes, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return this as plain JSON."""
        return {**asdict(self), "answers": [answer.decode("latin-1") for answer in self.answers]}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Fault":
        """Return what `to_json` was made of."""
        answers = tuple(answer.encode("latin-1") for answer in fields["answers"])
        return cls(**{**fields, "mode": Mode(fields["mode"]), "answers": answers})


def http_answer(status: int, body: bytes, *, content_type: bytes = b"application/json") -> bytes:
    """Return the bytes of a whole HTTP answer."""
    return b"HTTP/1.1 %d X\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (
        status,
        content_type,
        len(body),
        body,
    )


NOISE = bytes(range(128, 256)) + b"\r\n\r\n" + bytes(range(32))
GARBAGE = (
    NOISE,
    http_answer(200, b"<html><h1>It works!</h1></html>", content_type=b"text/html"),
    http_answer(200, b'{"results": [{"lat": NaN, "lon": "east"}], "country": "ZZZ"}'),
    http_answer(202, b'["accepted"]'),
    http_answer(200, b'{"keys": []}'),
    b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\nonly the begin",
)

PASS = Fault(Mode.PASS)
REFUSE = Fault(Mode.REFUSE)
RESET = Fault(Mode.RESET)
RESET_IN_ANSWER = Fault(Mode.RESET, after_bytes=20)
SILENT = Fault(Mode.SILENT)
SLOW = Fault(Mode.SLOW, delay_s=2.0, jitter_s=0.2)
GARBLED = Fault(Mode.ANSWER, answers=GARBAGE)
STATUS_503 = Fault(Mode.ANSWER, answers=(http_answer(503, b'{"status": 503}'),))
TRUNCATED = Fault(
    Mode.ANSWER,
    answers=(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n{"begun": "and never e',),
)
