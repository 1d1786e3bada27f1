"""The product's own saving and telling, for one decision that it made before: what LEAN cannot be faster than.

A request costs its HTTP, a place in a batch, its rows and its record in the archive. Nothing is authenticated, checked,
located, decided or logged, and nobody is alerted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import orjson
from sqlalchemy import select
from starlette.types import Message, Receive, Scope, Send

from ai_service.features.accepted import AcceptedTransaction
from ai_service.main import SERVICE
from ai_service.scoring.in_flight import Answer
from ai_service.scoring.record import Draft, parse_record
from ai_service.scoring.service import MAX_TOGETHER
from ai_service.scoring.tables import decisions
from common.app import create_app
from common.batches import Batches
from common.clock import epoch_ms, utc_now
from common.ids import new_id
from common.tenancy import of_every_tenant

SCORE_PATH = "/v1/score"
_WAITING = 10_000


@dataclass
class Floor:
    """Scores the first payments as the product does; once a decision is saved, it answers all others with its like."""

    like: Mapping[str, Any] = field(default_factory=dict)
    batches: Batches[str, Answer] | None = None
    app: Any = field(default_factory=lambda: create_app(SERVICE))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope."""
        if scope["type"] != "http" or scope["path"] != SCORE_PATH:
            await self.app(scope, receive, send)
        elif self.batches is None:
            await self.app(scope, receive, send)
            await self._take_after(scope["state"])
        else:
            await _reply(send, await self.batches.submit(await _transaction_id(receive)))

    async def _take_after(self, state: Mapping[str, Any]) -> None:
        """Take the first saved decision as the one that all others are like."""
        query = select(decisions.c.record).where(decisions.c.flagged.is_(False)).limit(1)
        async with state["database"].sessions.begin() as session:
            saved = await session.scalar(of_every_tenant(query, "a bench has one institution"))
        if saved is None or self.batches is not None:
            return
        self.like = parse_record(saved)
        publisher = state["scorer"].publisher

        async def publish(transaction_ids: Sequence[str]) -> Any:  # noqa: ANN401 - as `Publisher.publish`
            return await publisher.publish([_draft(self.like, each) for each in transaction_ids])

        self.batches = Batches(publish, name="floor", max_batch=MAX_TOGETHER, max_waiting=_WAITING)


def _draft(like: Mapping[str, Any], transaction_id: str) -> Draft:
    """Return a draft for `transaction_id` that says what `like` says."""
    decision_id, now = new_id("dec"), utc_now()
    answer = {
        **like["decision"],
        "decision_id": decision_id,
        "transaction_id": transaction_id,
        "created_at": now,
    }
    accepted = SimpleNamespace(
        institution_id=like["institution"]["institution_id"],
        transaction=SimpleNamespace(
            transaction_id=transaction_id, customer_id=like["transaction"]["customer_id"]
        ),
        event_time_us=epoch_ms() * 1000,
        request_id="",
    )
    return Draft(
        decision_id=decision_id,
        accepted=cast("AcceptedTransaction", accepted),
        observed_sequence=0,
        flagged=False,
        created_at=now,
        body_sha256="0" * 64,
        answer=answer,
        record={**like, "decision": answer},
    )


async def _transaction_id(receive: Receive) -> str:
    message: Message = await receive()
    return str(orjson.loads(message["body"])["transaction_id"])


async def _reply(send: Send, answer: Answer) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer.body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


app = Floor()
