"""What a client did and heard, one JSON line for each request that came to an end."""

from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

DECIDED_AGAIN = "Idempotent-Replay"


class Ending(StrEnum):
    """How a request ended, as far as its sender can know."""

    OK = "ok"  # a decision
    FAIL = "fail"  # an answer that says it was not taken; with 503 it may have been
    INFO = "info"  # no answer, or a broken one: it may have been taken


class Wanted(StrEnum):
    """What the sender has a right to."""

    DECISION = "decision"
    CONFLICT = "conflict"  # 409: the id was used before for another body


class Attempt(BaseModel):
    """One request to `POST /v1/score`. Times are milliseconds since 1970; the latency counts from when it was due.

    `institution_id` is whose request it was, empty where nobody wrote it down.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    institution_id: str = ""
    transaction_id: str
    body: str
    wanted: Wanted = Wanted.DECISION
    phase: str = ""
    sent_ms: int
    ended_ms: int
    latency_ms: float
    ending: Ending
    status: int | None = None
    answer: dict[str, Any] | None = None
    replayed: bool = False
    problem: str | None = None
    has_retry_after: bool = False
    error: str | None = None

    @property
    def decision_id(self) -> str | None:
        """Return the decision that was acknowledged, if one was."""
        if self.ending is not Ending.OK or self.answer is None:
            return None
        return str(self.answer.get("decision_id"))


def write_history(path: Path, attempts: Iterable[Attempt]) -> None:
    """Add `attempts` to a file."""
    with path.open("a") as file:
        file.writelines(attempt.model_dump_json() + "\n" for attempt in attempts)


def read_history(path: Path) -> Iterator[Attempt]:
    """Yield what a file holds."""
    with path.open() as file:
        for line in file:
            yield Attempt.model_validate_json(line)
