"""What keeps the stack from running; the messages are for the person at the terminal."""


class StackError(Exception):
    """The stack cannot do what was asked; `details` are lines that show why."""

    def __init__(self, message: str, *, details: list[str] | None = None) -> None:
        super().__init__(message)
        self.details = details or []


class PortTakenError(StackError):
    """Something else listens where a part wants to."""


class AlreadyRunningError(StackError):
    """Another stack uses the same folder."""


class PartEndedError(StackError):
    """A part ended that should run."""


class NotReadyError(StackError):
    """A part did not become ready in time."""
