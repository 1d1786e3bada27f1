"""Counts what became of acknowledged transactions, from what was found where it should have arrived. Pure."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

_ALERT_ID = re.compile(r"\balr_[0-9a-z]{26}\b")


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What a caller was told about one transaction."""

    transaction_id: str
    decision_id: str
    flagged: bool


@dataclass(frozen=True, slots=True)
class Kept:
    """A decision as it was found in the database or in the archive."""

    transaction_id: str
    decision_id: str


@dataclass(frozen=True, slots=True)
class Tally:
    """How many of each; transactions are counted once, however often they were found."""

    acknowledged: int
    saved: int
    archived: int
    alerts_expected: int
    alerts_delivered: int
    lost: int
    duplicates: int

    @property
    def holds(self) -> bool:
        """Whether everything that was acknowledged arrived everywhere, once, and nothing else did."""
        return (
            self.lost == 0
            and self.duplicates == 0
            and self.acknowledged == self.saved == self.archived
            and self.alerts_expected == self.alerts_delivered
        )

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing (any more)."""
        return self.lost == 0


def tally(
    acknowledgements: Iterable[Acknowledgement],
    *,
    saved: Sequence[Kept],
    archived: Sequence[Kept],
    mails: Iterable[Collection[str]],
) -> Tally:
    """Compare what was acknowledged with all that was found for the same institution.

    `mails` holds the alert ids of each mail. Lost is a transaction that is missing in the database or in the archive
    under the decision it was answered with, or an expected alert that no mail names. Duplicates are decisions found
    once more than needed for a transaction, in the database or in the archive, and alerts named by a second mail.
    """
    told = {(found.transaction_id, found.decision_id): found.flagged for found in acknowledgements}
    in_database = {(kept.transaction_id, kept.decision_id) for kept in saved}
    in_archive = {(kept.transaction_id, kept.decision_id) for kept in archived}
    expected = {alert_id(decision_id) for (_, decision_id), flagged in told.items() if flagged}
    mails_by_alert = Counter(found for mail in mails for found in set(mail))
    return Tally(
        acknowledged=len({transaction_id for transaction_id, _ in told}),
        saved=len({kept.transaction_id for kept in saved}),
        archived=len({kept.transaction_id for kept in archived}),
        alerts_expected=len(expected),
        alerts_delivered=len(mails_by_alert),
        lost=len(told.keys() - (in_database & in_archive)) + len(expected - mails_by_alert.keys()),
        duplicates=_surplus(saved)
        + _surplus(archived)
        + sum(1 for count in mails_by_alert.values() if count > 1),
    )


def alert_id(decision_id: str) -> str:
    """Return the id that the alert of a flagged decision has."""
    return "alr_" + decision_id.removeprefix("dec_")


def alert_ids_in(text: str) -> set[str]:
    """Return every alert id that a mail's text names."""
    return set(_ALERT_ID.findall(text))


def _surplus(kept: Sequence[Kept]) -> int:
    return len(kept) - len({found.transaction_id for found in kept})
