"""What must hold of identity events and notices, whatever failed in between. Pure; the names are those of `invariants`.

I1: a registration that was answered has its event. I2: events and archive are the same bytes, once each. I3: every
notice was mailed, or what became of it is written down. I4: nothing is archived or mailed without its row. I6: numbers
have no gaps. I9: no secret stays behind when its mail is settled.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

from tests.faults.evidence import ArchivedLine
from tests.faults.invariants import Breach, Case

REGISTERED = "institution.registered"
SETTLED = frozenset({"delivered", "expired", "dead_letter"})


def identity_breaches(case: Case) -> list[Breach]:
    """Return everything that does not hold; nothing where nobody looked."""
    return [breach for check in CHECKS for breach in check(case)]


def registrations_have_their_event(case: Case) -> Iterator[Breach]:
    """I1."""
    if case.found.events is None:
        return
    registered = {event.institution_id for event in case.found.events if event.action == REGISTERED}
    for institution_id in set(case.registered) - registered:
        yield Breach("I1", "registered without an event", (institution_id,))


def events_are_archived_once(case: Case) -> Iterator[Breach]:
    """I2 and I4."""
    if case.found.events is None or case.found.archived_events is None:
        return
    lines: defaultdict[str, list[ArchivedLine]] = defaultdict(list)
    for line in case.found.archived_events:
        lines[line.record_id].append(line)
    for event in case.found.events:
        archived = lines.pop(event.event_id, [])
        if not archived:
            yield Breach("I2", "an event is not archived", (event.event_id,))
        elif len(archived) > 1:
            keys = (line.key for line in archived)
            yield Breach("I2", "an event is archived more than once", (event.event_id, *keys))
        if any(line.line != event.body for line in archived):
            yield Breach("I2", "an event is archived with other bytes", (event.event_id, archived[0].key))
    for event_id, archived in lines.items():
        yield Breach("I4", "an event is archived and not saved", (event_id, archived[0].key))


def event_numbers_have_no_gaps(case: Case) -> Iterator[Breach]:
    """I6."""
    numbers: defaultdict[str, list[int]] = defaultdict(list)
    for event in case.found.events or ():
        numbers[event.institution_id].append(event.sequence)
    for institution_id, found in numbers.items():
        missing = sorted(set(range(1, len(found) + 1)) - set(found))
        if missing:
            yield Breach("I6", "missing numbers of events", (institution_id, *map(str, missing[:20])))


def notices_were_mailed(case: Case) -> Iterator[Breach]:
    """I3 and I9."""
    if case.found.notices is None or case.found.notice_mails is None:
        return
    for notice_id in set(case.asked) - {notice.notice_id for notice in case.found.notices}:
        yield Breach("I3", "a notice was asked for and never taken", (notice_id,))
    mailed = {notice_id for notice_id, _ in _copies(case)}
    for notice in case.found.notices:
        if notice.state is None:
            yield Breach("I3", "a notice has no mail", (notice.notice_id,))
        elif notice.state == "delivered" and notice.notice_id not in mailed:
            yield Breach("I3", "a notice counts as delivered and nobody got it", (notice.notice_id,))
        if notice.has_secret and notice.state in SETTLED:
            yield Breach("I9", "the secret of a settled notice is kept", (notice.notice_id,))


def notices_were_mailed_once(case: Case) -> Iterator[Breach]:
    """I3, and I4 where everybody's notices are looked at."""
    known = {notice.notice_id for notice in case.found.notices or ()}
    for (notice_id, _), count in _copies(case).items():
        if notice_id in known and count > case.most_copies:
            yield Breach("I3", f"a notice was mailed {count} times", (notice_id,))
        if notice_id not in known and case.found.notices is not None and not case.found.is_scoped:
            yield Breach("I4", "mailed without a notice", (notice_id,))


def _copies(case: Case) -> Counter[tuple[str, str]]:
    """Return how often each address got each notice."""
    return Counter(
        (notice_id, address)
        for mail in case.found.notice_mails or ()
        for notice_id in mail.notice_ids
        for address in mail.recipients
    )


CHECKS: Sequence[Callable[[Case], Iterable[Breach]]] = (
    registrations_have_their_event,
    events_are_archived_once,
    event_numbers_have_no_gaps,
    notices_were_mailed,
    notices_were_mailed_once,
)
