"""What a notice says of itself, and the colours it says it in. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

CALM, WARNING, ALARM = "#1d4ed8", "#8a6100", "#a3262a"


@dataclass(frozen=True, slots=True)
class Words:
    """What one kind of notice says of itself."""

    subject: str
    colour: str
    happened: Sequence[str]
    to_do: Sequence[str]
    unasked: Sequence[str]
