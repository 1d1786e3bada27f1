"""POST /v1/score once more, as plain ASGI in front of FastAPI: the same parser, the same scorer, the same answers.

FastAPI takes longer to find and call a route than this service takes to score. So a request that is plainly good is
answered here, and every other one (an odd header, an unknown token, a body that is refused) goes on to the route,
untouched, which says what is wrong with it. A test sends every hostile case through both and compares.
"""

from types import SimpleNamespace
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ai_service.scoring.deadline import DeadlineExceededError, Deadlines, seconds_allowed
from ai_service.scoring.in_flight import Answer
from common.auth.principal import Principal
from common.clock import utc_now
from common.contracts.tokens import Scope as TokenScope
from common.contracts.transactions import Transaction
from common.doors import CONTENT_TYPE, again, plain_caller, plain_headers
from common.errors import PlatformError, Rendered, render_problem
from common.failpoints import failpoint
from common.logging import add_facts, request_id
from common.strict_json import read_model

PATH: Final = "/v1/score"
_ROUTE: Final = SimpleNamespace(path=PATH)  # as FastAPI leaves it in the scope, for metrics and the log
_REPLAY: Final = (b"idempotent-replay", b"true")
_DEADLINE: Final = b"x-deadline-ms"


class HotDoor:
    """Answers what it understands of `POST /v1/score`; everything else is left to `app`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._deadlines = Deadlines()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve `scope`, here or in `app`."""
        is_ours = scope["type"] == "http" and scope["path"] == PATH and scope["method"] == "POST"
        if not is_ours or not scope["state"]["hot_door"]:
            await self.app(scope, receive, send)
            return
        failpoint("score.before_auth")
        message = await receive()
        call = _understood(scope, message)
        if call is None:
            await self.app(scope, again(message, receive), send)
            return
        transaction, caller, allowed_s = call
        reply = Reply(send)
        self._deadlines.watch(reply, allowed_s)
        scope["route"] = _ROUTE
        add_facts(caller=caller.subject)
        try:
            await scope["state"]["rate_limits"].count_caller(scope, caller)
            answer = await scope["state"]["scorer"].score(
                transaction, caller, now=utc_now(), request_id=request_id()
            )
        except Exception as error:  # noqa: BLE001 - what is not expected is raised again
            await reply.problem(render_problem(error))
        else:
            await reply.answer(answer)


class Reply:
    """One answer to one request: the first that is given is sent, and no other."""

    __slots__ = ("_send", "sent")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.sent = False

    async def answer(self, answer: Answer) -> None:
        """Send a decision."""
        if self.sent:
            return
        add_facts(**answer.facts, replayed=answer.replayed)
        headers = [CONTENT_TYPE, (b"content-length", b"%d" % len(answer.body))]
        if answer.replayed:
            headers.append(_REPLAY)
        await self._first(200, headers, answer.body)

    async def problem(self, problem: Rendered) -> None:
        """Send a problem."""
        headers = [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
        await self._first(problem.status, headers, problem.body)

    async def expire(self) -> None:
        """Send that the time is over; the work goes on, because others may be waiting for the same transaction."""
        if not self.sent:
            await self.problem(render_problem(DeadlineExceededError()))

    async def _first(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        if self.sent:
            return
        self.sent = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        failpoint("response.started")
        await self._send({"type": "http.response.body", "body": body})


def _understood(scope: Scope, message: Message) -> tuple[Transaction, Principal, float] | None:
    """Return the transaction, the caller and the seconds allowed; None where the route has to look at it."""
    state, headers = scope["state"], plain_headers(scope, message, _DEADLINE)
    caller = None if headers is None else plain_caller(headers, state["token_verifier"])
    if headers is None or caller is None:
        return None
    deadline = headers.get(_DEADLINE)
    try:
        caller.require(TokenScope.SCORE_WRITE)
        allowed_s = seconds_allowed(
            None if deadline is None else deadline.decode("latin-1"), limit_ms=state["deadline_ms"]
        )
        return read_model(message["body"], Transaction), caller, allowed_s
    except PlatformError:
        return None
