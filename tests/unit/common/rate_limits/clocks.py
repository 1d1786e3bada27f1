from dataclasses import dataclass


@dataclass
class Clock:
    """A clock that tests move."""

    now: float = 1200.0

    def __call__(self) -> float:
        return self.now
