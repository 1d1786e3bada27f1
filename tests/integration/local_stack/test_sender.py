"""A careful client: what it does with refusals, with waiting, and with a service that goes away."""

from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from local_stack.errors import StackError
from local_stack.sender import Sender
from tests.factories import make_transaction
from tests.servers import serving
from tests.unit.local_stack.test_report import make_answer

TRANSACTIONS = [make_transaction(transaction_id=f"tx-{number}") for number in range(20)]
BUSY = JSONResponse({"title": "busy"}, status_code=503, headers={"Retry-After": "0"})
BUSY_WITHOUT_A_TIME = JSONResponse({"title": "busy"}, status_code=503)


@dataclass
class FakeScoring:
    """Answers each transaction as `answer` says; counts the tries of each."""

    answer: Callable[[int], Response | None]
    tries: Counter[str] = field(default_factory=Counter)
    tokens: set[str] = field(default_factory=set)

    @property
    def app(self) -> Starlette:
        return Starlette(routes=[Route("/v1/score", self.score, methods=["POST"])])

    async def score(self, request: Request) -> Response:
        transaction_id = (await request.json())["transaction_id"]
        self.tries[transaction_id] += 1
        self.tokens.add(request.headers["Authorization"])
        refusal = self.answer(self.tries[transaction_id])
        if refusal is not None:
            return refusal
        scored = make_answer().scored.model_dump(mode="json")
        return JSONResponse({**scored, "transaction_id": transaction_id})


@pytest.fixture
async def taking() -> AsyncIterator[tuple[FakeScoring, str]]:
    fake = FakeScoring(lambda _try: None)
    async with serving(fake.app) as url:
        yield fake, url


class TestSender:
    async def test_every_transaction_is_answered_once(self, taking: tuple[FakeScoring, str]) -> None:
        fake, url = taking
        heard: list[str] = []

        sender = Sender(url, "the-token", on_answer=lambda answer: heard.append(answer.scored.transaction_id))
        answers = await sender.send(TRANSACTIONS)

        sent = [transaction.transaction_id for transaction in TRANSACTIONS]
        assert sorted(answer.scored.transaction_id for answer in answers) == sorted(sent)
        assert heard == [answer.scored.transaction_id for answer in answers]
        assert set(fake.tries.values()) == {1}
        assert fake.tokens == {"Bearer the-token"}
        assert all(answer.transaction.transaction_id == answer.scored.transaction_id for answer in answers)

    @pytest.mark.parametrize("busy", [BUSY, BUSY_WITHOUT_A_TIME])
    async def test_is_sent_again_under_the_same_id_when_there_is_too_much_work(self, busy: Response) -> None:
        fake = FakeScoring(lambda attempt: busy if attempt < 3 else None)
        async with serving(fake.app) as url:
            answers = await Sender(url, "t").send(TRANSACTIONS)

        assert len(answers) == len(TRANSACTIONS)
        assert set(fake.tries.values()) == {3}

    async def test_a_refusal_ends_it(self) -> None:
        fake = FakeScoring(lambda _attempt: JSONResponse({"title": "no"}, status_code=422))
        async with serving(fake.app) as url:
            with pytest.raises(StackError, match="A payment was refused: 422"):
                await Sender(url, "t").send(TRANSACTIONS)

    async def test_gives_up_in_the_end(self) -> None:
        fake = FakeScoring(lambda _attempt: BUSY)
        async with serving(fake.app) as url:
            with pytest.raises(StackError, match=r"no answer in 0 s: 503"):
                await Sender(url, "t", give_up_after_s=0.05).send(TRANSACTIONS)

    async def test_gives_up_on_a_service_that_is_away(self, taking: tuple[FakeScoring, str]) -> None:
        nobody = "http://127.0.0.1:1"

        with pytest.raises(StackError, match="no answer"):
            await Sender(nobody, "t", give_up_after_s=0.05).send(TRANSACTIONS)
