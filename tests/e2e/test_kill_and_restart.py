"""A service is killed in the middle of a stream and started again: nothing that was acknowledged is lost, on both sets."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import closing

import pytest
from rich.console import Console

from common.clock import utc_now
from common.contracts.transactions import Transaction
from local_stack.accounts import access_token, register_sandbox
from local_stack.demo import await_arrival
from local_stack.sender import Answer, Sender
from local_stack.settings import Stores
from local_stack.stack import Stack
from local_stack.tally import alert_id
from tests.e2e.stacks import BOTH_SETS, running_stack, stack_evidence
from tests.factories import make_transaction
from tests.models import DOUBTFUL, FINE, FRAUD

PAYMENTS = 400
KILLED_AFTER = 120
AMOUNTS = (FRAUD, FINE, FINE, FINE, FINE, DOUBTFUL, FINE, FINE, FINE, FINE)
MOST_COPIES_AFTER_A_CRASH = 3


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, stores: Stores) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("stack") / "var", stores=stores) as running:
        yield running


def payments() -> list[Transaction]:
    """Return payments of customers who have nothing to do with each other; every fifth is flagged."""
    now = utc_now().isoformat()
    return [
        make_transaction(
            transaction_id=f"tx-{number}",
            event_time=now,
            amount=AMOUNTS[number % len(AMOUNTS)],
            customer_id=f"customer-{number}",
            device_id=f"device-{number}",
            payment_method=None,
            ip_address=None,
        )
        for number in range(PAYMENTS)
    ]


class Killer:
    """Kills a service when enough answers have come, and starts it again at once."""

    def __init__(self, stack: Stack, service: str) -> None:
        self._stack = stack
        self._service = service
        self.answers = 0

    def __call__(self, _answer: Answer) -> None:
        self.answers += 1
        if self.answers == KILLED_AFTER:
            self._stack.kill(self._service)
            self._stack.start_part(self._service)


@BOTH_SETS
class TestKillAndRestart:
    @pytest.mark.parametrize("service", ["ai_service", "alert_service", "log_service"])
    def test_everything_acknowledged_is_saved_archived_and_mailed(self, stack: Stack, service: str) -> None:
        login = register_sandbox(stack.url("user_service"), name=f"Survives the end of {service}")
        token = access_token(stack.url("user_service"), login)
        sender = Sender(stack.url("ai_service"), token, on_answer=Killer(stack, service))

        answers = asyncio.run(sender.send(payments()))
        stack.await_ready()
        with closing(stack_evidence(stack, login)) as evidence:
            found = await_arrival(evidence, answers, Console(quiet=True))
            copies = Counter(alert for mail in evidence.mails() for alert in mail)
            saved, archived = evidence.saved(), evidence.archived()

        assert found.lost == 0
        assert found.acknowledged == found.saved == found.archived == PAYMENTS
        assert len(saved) == len(archived) == PAYMENTS
        flagged = {
            alert_id(answer.scored.decision_id) for answer in answers if answer.acknowledgement.flagged
        }
        assert len(flagged) == PAYMENTS // 5
        assert copies.keys() == flagged
        assert max(copies.values()) <= MOST_COPIES_AFTER_A_CRASH
