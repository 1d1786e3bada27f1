"""A digest of the rows of a table in whatever order they come: two engines need not sort alike. Pure.

The sum of the SHA-256 of every line, modulo 2^256, beside the number of lines. It shows what copying changed, lost or
doubled. It is no proof against somebody who chooses the rows; of a backup's files the SHA-256 of each part is kept too.
"""

from dataclasses import dataclass
from hashlib import sha256

_SIZE = 1 << 256


@dataclass(slots=True)
class TableDigest:
    """The rows of one table so far."""

    rows: int = 0
    _sum: int = 0

    def add(self, line: bytes) -> None:
        """Count one more row."""
        self.rows += 1
        self._sum = (self._sum + int.from_bytes(sha256(line).digest())) % _SIZE

    @property
    def sha256_sum(self) -> str:
        """Return the sum as 64 hexadecimal digits."""
        return f"{self._sum:064x}"

    def facts(self) -> "RowFacts":
        """Return what is kept of it."""
        return RowFacts(self.rows, self.sha256_sum)


@dataclass(frozen=True, slots=True)
class RowFacts:
    """How many rows a table has, and their digest."""

    rows: int
    sha256_sum: str
