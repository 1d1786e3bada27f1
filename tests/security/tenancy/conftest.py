"""One real stack with two institutions for all tests here that need it; starting it takes most of their time."""

import time
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.conftest import no_settings_file
from tests.e2e.stacks import running_stack
from tests.security.tenancy.banks import Bank

__all__ = ["no_settings_file"]  # a fixture
SETTLE_S = 60


@pytest.fixture(scope="session")
def banks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bank, Bank]]:
    """A, which did things full of canaries, and B, which did the same with other ones."""
    with running_stack(tmp_path_factory.mktemp("tenancy") / "var") as stack:
        both = Bank(stack, "quokkabay"), Bank(stack, "wombathill")
        for bank in both:
            bank.register()
            bank.score_all()
        for bank in both:
            _until(bank.is_settled)
            bank.note_ids()
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


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SETTLE_S
    while not holds():
        assert time.monotonic() < deadline, "mails and objects did not arrive"
        time.sleep(0.1)
