"""user_service is gone and ai_service is killed and started again: it lets in whom it had let in, and nobody else."""

import secrets
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from common.clock import utc_now
from local_stack.accounts import access_token, register_sandbox
from local_stack.stack import Stack
from tests.e2e.stacks import running_stack, unhurried
from tests.factories import make_transaction
from tests.models import FINE

STALE_S = 60.0
PATIENCE_S = 30.0
EVERY_S = 0.5
Headers = dict[str, str]


@pytest.fixture
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with unhurried(), running_stack(tmp_path_factory.mktemp("stack") / "var") as running:
        yield running


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=PATIENCE_S, trust_env=False) as client:
        yield client


def make_key(stack: Stack, client: httpx.Client, admin: Headers) -> tuple[str, Headers]:
    """Return the id of a new API key and the header that shows it."""
    url = stack.url("user_service") + "/v1/api-keys"
    made = client.post(url, headers=admin, json={"name": "checkout", "scopes": ["score:write"]})
    key = made.raise_for_status().json()
    return key["key_id"], {"X-API-Key": key["key"]}


def score(stack: Stack, client: httpx.Client, caller: Headers) -> tuple[int, object]:
    """Score a payment without an address, which nobody could look up now; return status and degradations."""
    payment = make_transaction(
        transaction_id=f"tx-{secrets.token_hex(8)}",
        event_time=utc_now().isoformat(),
        amount=FINE,
        payment_method=None,
        ip_address=None,
    )
    headers = {**caller, "Content-Type": "application/json"}
    response = client.post(stack.url("ai_service") + "/v1/score", content=payment.body, headers=headers)
    return response.status_code, response.json().get("degraded")


def until(is_so: Callable[[], bool], *, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline, "it never was so"
        time.sleep(EVERY_S)


class TestStartedWithoutUsers:
    def test_scores_for_whom_it_knew_says_so_after_a_minute_and_refuses_what_was_revoked(
        self, stack: Stack, client: httpx.Client
    ) -> None:
        login = register_sandbox(stack.url("user_service"), name="Harbour Payments")
        token = {"Authorization": f"Bearer {access_token(stack.url('user_service'), login)}"}
        _, key = make_key(stack, client, token)
        revoked_id, revoked = make_key(stack, client, token)
        known = [score(stack, client, caller)[0] for caller in (token, key, revoked)]
        url = f"{stack.url('user_service')}/v1/api-keys/{revoked_id}"
        client.delete(url, headers=token).raise_for_status()
        until(lambda: score(stack, client, revoked)[0] == 401, within_s=PATIENCE_S)

        stack.stop_part("user_service")
        stack.stop_part("ai_service")
        stack.start_part("ai_service")
        stack.await_ready(["ai_service"])
        restarted = [score(stack, client, caller)[0] for caller in (token, key, revoked)]
        until(
            lambda: score(stack, client, key) == (200, ["revocation"]),
            within_s=STALE_S + PATIENCE_S,
        )
        stack.kill("ai_service")
        stack.start_part("ai_service")
        stack.await_ready(["ai_service"])

        stale = [score(stack, client, caller) for caller in (token, key, revoked)]
        privileged = client.get(stack.url("ai_service") + "/v1/transactions", headers=token).status_code
        stack.start_part("user_service")
        until(lambda: score(stack, client, key) == (200, []), within_s=PATIENCE_S)

        assert known == [200, 200, 200]
        assert restarted == [200, 200, 401]
        assert stale == [(200, ["revocation"]), (200, ["revocation"]), (401, None)]
        assert privileged == 503
        assert score(stack, client, revoked)[0] == 401
