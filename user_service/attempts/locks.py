"""What is remembered of a lock until its owner has been told (pure)."""

import json
from dataclasses import asdict, dataclass
from typing import Self

from user_service.times import written


@dataclass(frozen=True, slots=True)
class Lock:
    """An account that was locked: at one address that it is known at, or else at all others.

    Where the password was right, codes were wrong.
    """

    locked_until_ms: int
    failures: int
    address: str
    at_known_address: bool
    password_was_right: bool = False

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Return what `as_text` was of."""
        return cls(**json.loads(text))

    def as_text(self) -> str:
        """Return it as it is kept with the task of telling the owner."""
        return json.dumps(asdict(self))

    def facts(self) -> dict[str, str]:
        """Return what the mail says of it."""
        address = self.address or "an address that is not known"
        known = {"password_was_right": "yes"} if self.password_was_right else {}
        return {
            **known,
            "locked_until": written(self.locked_until_ms),
            "locked_at": f"from {address}"
            if self.at_known_address
            else "from addresses that you have not logged in from in the last 30 days",
            "failures": str(self.failures),
            "last_address": address,
        }
