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
from common.auth.keys import TokenVerifier
from common.auth.principal import Principal
from common.clock import utc_now
from common.contracts.tokens import Scope as TokenScope
from common.contracts.transactions import Transaction
from common.errors import PlatformError, Rendered, render_problem
from common.failpoints import failpoint
from common.logging import add_facts, request_id
from common.strict_json import read_model

PATH: Final = "/v1/score"
_ROUTE: Final = SimpleNamespace(path=PATH)  # as FastAPI leaves it in the scope, for metrics and the log
_CONTENT_TYPE: Final = (b"content-type", b"application/json")
_JSON_TYPES: Final = frozenset({b"application/json", b"application/json; charset=utf-8"})
_REPLAY: Final = (b"idempotent-replay", b"true")
_READ: Final = frozenset(
    {b"authorization", b"x-api-key", b"content-type", b"content-encoding", b"x-deadline-ms"}
)
_BEARER: Final = b"Bearer "


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
            await self.app(scope, _again(message, receive), send)
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
        headers = [_CONTENT_TYPE, (b"content-length", b"%d" % len(answer.body))]
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
    state, headers = scope["state"], _headers(scope)
    if headers is None or message["type"] != "http.request" or message.get("more_body", False):
        return None
    if headers.get(b"content-type") not in _JSON_TYPES or b"content-encoding" in headers:
        return None
    caller, deadline = _caller(headers, state["token_verifier"]), headers.get(b"x-deadline-ms")
    if caller is None:
        return None
    try:
        caller.require(TokenScope.SCORE_WRITE)
        allowed_s = seconds_allowed(
            None if deadline is None else deadline.decode("latin-1"), limit_ms=state["deadline_ms"]
        )
        return read_model(message["body"], Transaction), caller, allowed_s
    except PlatformError:
        return None


def _caller(headers: dict[bytes, bytes], verifier: TokenVerifier) -> Principal | None:
    """Return who holds the one credential, an API key or a token that was verified before."""
    authorization, api_key = headers.get(b"authorization"), headers.get(b"x-api-key")
    if authorization is None:
        return None if api_key is None else verifier.holder_of(api_key)
    if api_key is not None or not authorization.startswith(_BEARER):
        return None
    return verifier.remembered(authorization.removeprefix(_BEARER).decode("latin-1"))


def _headers(scope: Scope) -> dict[bytes, bytes] | None:
    """Return the headers that are read here; None where there is a query, or one of them twice."""
    if scope["query_string"]:
        return None
    found: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name in _READ:
            if name in found:
                return None
            found[name] = value
    return found


def _again(message: Message, receive: Receive) -> Receive:
    """Return a `receive` that hands on `message` before anything else."""
    first = [message]

    async def receive_again() -> Message:
        return first.pop() if first else await receive()

    return receive_again
