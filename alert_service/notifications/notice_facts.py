"""The facts of a notice as a mail shows them: in one line each, times readable, none told twice. Pure."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from common.texts import one_line


class Facts(Mapping[str, str]):
    """Facts by name. It remembers which were asked for: a sentence tells those, so no table has to."""

    def __init__(self, facts: Mapping[str, str]) -> None:
        self._shown = {name: _readable(one_line(value)) for name, value in facts.items()}
        self._told: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self._told.add(name)
        return self._shown[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._shown)

    def __len__(self) -> int:
        return len(self._shown)

    @property
    def untold(self) -> list[tuple[str, str]]:
        """Return the facts that no sentence was made of."""
        return [(name, value) for name, value in self._shown.items() if name not in self._told]


def written_time(moment: datetime) -> str:
    """Return `moment` to the minute, with its zone."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _readable(value: str) -> str:
    """Return a time as people write it, and anything else as it is."""
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return value
    return value if moment.tzinfo is None else written_time(moment)
