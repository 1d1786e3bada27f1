"""What keeps a command from doing what was asked; the messages are for the person at the terminal, or for cron's mail."""

from collections.abc import Sequence


class OperationError(Exception):
    """The command did not do what was asked; `details` are lines that say more, or what to do."""

    def __init__(self, message: str, *, details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.details = tuple(details)


class InUseError(OperationError):
    """A service runs that must not."""


class NotEmptyError(OperationError):
    """Something is there already; it is left as it is."""


class LeftOverError(NotEmptyError):
    """Files that belonged to a database are there without it: there is nothing to compare with."""


class OtherSchemaError(OperationError):
    """A database is not of the version that this program knows."""


class CopyDiffersError(OperationError):
    """What was read back is not what was read: nothing was kept of the copy."""


class ValueRefusedError(OperationError):
    """A value does not fit its column's type, or the other engine cannot hold it."""


class BackupDamagedError(OperationError):
    """A backup is not what was written: cut off, changed, or another file."""


class PassphraseError(OperationError):
    """The passphrase is missing, or not the one of this backup."""
