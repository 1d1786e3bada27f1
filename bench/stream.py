"""The stream that is offered: a day of simulated honest payments, repeated day after day under new ids.

Of each hundred payments exactly three are of the category `MARKED`, which one rule of each bench ruleset flags. Of
each fifty one comes from an address that changes from day to day; the others' addresses are known after one day.
The templates are written to a file that `wrk.lua` reads too; both put requests together in the same way.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import orjson

from ai_service.ml.simulator import simulate
from bench.http_wire import WireRequest, post
from common.contracts.geoip import GeoLocation
from common.contracts.transactions import Transaction
from external_apis_services.geoip.mock import MockProvider

MARKED = "marked_by_bench"
MARKED_PER_HUNDRED = 3
FRESH_ADDRESS_EVERY = 50
SEED = 20_261_109
MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
DAYS_BACK = 29  # the oldest event time: what is older than 30 days is not counted in velocity windows
ID_START, TIME_START = '{"transaction_id":"', '","event_time":"'
FORMAT = "2"  # of the file; another number makes it anew


@dataclass(frozen=True, slots=True)
class Template:
    """A payment without its id and its date; a fresh address is cut in two where its last two digits go."""

    day: int  # the date's distance from the stream's day: local dates differ from UTC's
    rest: str
    after_digits: str


@dataclass
class Stream:
    """The templates, and how far a target has come with them. Positions are never used twice."""

    path: Path
    templates: Sequence[Template]
    first_day: date
    position: int = 0

    @property
    def days(self) -> int:
        """Return how many days can be sent before dates repeat: the last one is yesterday."""
        return DAYS_BACK - 1

    def take(self, count: int) -> int:
        """Reserve `count` positions and return the first."""
        first = self.position
        self.position += count
        return first

    def requests(self, tag: str, head: bytes, *, count: int) -> Iterator[WireRequest]:
        """Yield up to `count` requests as bytes, with ids that start with `tag`."""
        first = self.take(count)
        for position in range(first, first + count):
            transaction_id = make_id(tag, position)
            yield WireRequest(transaction_id, post(head, self.body(transaction_id, position)))

    def body(self, transaction_id: str, position: int) -> bytes:
        """Return the body at `position`."""
        cycle, index = divmod(position, len(self.templates))
        template = self.templates[index]
        day = self.first_day + timedelta(days=min(cycle, self.days) + template.day)
        digits = f"{cycle % 100:02d}" if template.after_digits else ""
        return "".join(
            (
                *(ID_START, transaction_id, TIME_START, day.isoformat()),
                *(template.rest, digits, template.after_digits),
            )
        ).encode()


def make_id(tag: str, position: int) -> str:
    """Return the transaction id at a position of a run."""
    return f"{tag}-{position:010d}"


def load_stream(path: Path, *, customers: int, today: date) -> Stream:
    """Return the stream of that many customers, simulated unless `path` has it."""
    wanted = f"{FORMAT} {SEED} {customers}"
    if not path.exists() or path.read_text(encoding="utf-8").partition("\n")[0] != wanted:
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"{found.day}\t{found.rest}\t{found.after_digits}" for found in _simulated(customers)]
        path.write_text("\n".join([wanted, *lines]) + "\n", encoding="utf-8")
    return Stream(path, read_templates(path), today - timedelta(days=DAYS_BACK))


def read_templates(path: Path) -> list[Template]:
    """Return the templates of a stream file."""
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    found = []
    for line in lines:
        day, rest, after_digits = line.split("\t")
        found.append(Template(int(day), rest, after_digits))
    return found


def make_template(transaction: Transaction, number: int) -> Template:
    """Make the template of the `number`-th payment of the day."""
    fields = transaction.model_dump(mode="json", exclude_none=True)
    if is_marked(number):
        fields["merchant_category"] = MARKED
    event_time = transaction.event_time.isoformat(timespec="milliseconds")
    address = fields.pop("ip_address", None)
    for field in ("transaction_id", "event_time"):
        del fields[field]
    rest = event_time[10:] + '",' + orjson.dumps(fields).decode()[1:-1]
    day = (transaction.event_time.date() - MONDAY.date()).days
    if address is None:
        return Template(day, rest + "}", "")
    network, _, _host = str(address).rpartition(".")
    if number % FRESH_ADDRESS_EVERY == 0 and network:
        return Template(day, f'{rest},"ip_address":"{network}.1', '"}')
    return Template(day, f'{rest},"ip_address":"{address}"}}', "")


def is_marked(number: int) -> bool:
    """Say whether the `number`-th payment of a day is one that a rule flags: three of each hundred, evenly spread."""
    return number * MARKED_PER_HUNDRED % 100 < MARKED_PER_HUNDRED


def _simulated(customers: int) -> list[Template]:
    payments = simulate(
        seed=SEED, start=MONDAY, customers=customers, days=1, fraud_rate=0.0, locate=_mock_places
    )
    return [make_template(payment.transaction, number) for number, payment in enumerate(payments)]


def _mock_places(addresses: Sequence[str]) -> list[GeoLocation]:
    """Place addresses as the stack's GeoIP service will."""
    provider = MockProvider()
    return [provider.locate(ip_address(address)) for address in addresses]
