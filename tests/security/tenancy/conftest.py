"""One real stack with two institutions for all tests here that need it; starting it takes most of their time."""

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import pytest

from local_stack.stack import Stack
from tests.e2e.conftest import no_settings_file
from tests.e2e.stacks import running_stack, unhurried
from tests.models import FRAUD
from tests.security.tenancy import colleagues
from tests.security.tenancy.banks import Bank

__all__ = ["no_settings_file"]  # a fixture
SETTLE_S = 60
NOT_DELIVERED = "outbox.not_delivered"


@pytest.fixture(scope="session")
def banks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bank, Bank]]:
    """A, which did things full of canaries, and B, which did the same with other ones."""
    with unhurried(), running_stack(tmp_path_factory.mktemp("tenancy") / "var") as stack:
        both = Bank(stack, "quokkabay"), Bank(stack, "wombathill")
        for bank in both:
            bank.register()
            colleagues.make_keys(bank)
            bank.ids["colleague"] = colleagues.invite(bank, "colleague")["user_id"]
            bank.score_all()
        for bank in both:
            _until(partial(colleagues.is_invited, bank))
            colleagues.join(bank)
            colleagues.invite(bank, "newcomer")
        for bank in both:
            _until(bank.is_settled)
        _score_during_an_outage(stack, both)
        for bank in both:
            bank.note_ids()
            colleagues.note_ids(bank)
        yield both
        for bank in both:
            bank.client.close()


@pytest.fixture(scope="session")
def a(banks: tuple[Bank, Bank]) -> Bank:
    """The institution whose things are looked for."""
    return banks[0]


@pytest.fixture(scope="session")
def b(banks: tuple[Bank, Bank]) -> Bank:
    """The institution that looks."""
    return banks[1]


def _score_during_an_outage(stack: Stack, banks: Iterable[Bank]) -> None:
    """Let alerts, notices and records fail to be delivered, which is logged, until their services are there again."""
    away = ("alert_service", "log_service")
    for part in away:
        stack.kill(part)
    for bank in banks:
        bank.score_next(FRAUD)
        bank.log_in()
    for part in ("ai_service", "user_service"):
        log = stack.files.log(part)
        _until(lambda log=log: NOT_DELIVERED in log.read_text())  # type: ignore[misc]
    for part in away:
        stack.start_part(part)
    stack.await_ready(away)
    for bank in banks:
        _until(bank.is_settled)


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SETTLE_S
    while not holds():
        assert time.monotonic() < deadline, "mails and objects did not arrive"
        time.sleep(0.1)
