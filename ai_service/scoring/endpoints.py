"""POST /v1/score, and what was decided before."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from ai_service.features.accepted import EventTimeAheadError
from ai_service.scoring.deadline import DeadlineDep, DeadlineExceededError, DeadlineInvalidError, within
from ai_service.scoring.history import DecisionHistory, ModelGoneError
from ai_service.scoring.in_flight import Answer, TransactionIdReusedError
from ai_service.scoring.repository import DecisionFilter
from ai_service.scoring.service import TransactionScorer
from ai_service.usage.service import QuotaExceededError
from common.auth.bearer import require_scope
from common.auth.principal import Principal
from common.clock import utc_now
from common.contracts.decisions import Outcome, RiskLevel, ScoredTransaction, TransactionPage
from common.contracts.fields import Identifier, Timestamp
from common.contracts.tokens import Scope
from common.contracts.transactions import Transaction
from common.errors import NotFoundError, OverloadedError
from common.logging import add_facts, request_id
from common.paging import Cursor, Limit
from common.problems import refusals
from common.strict_json import StrictRoute

router = APIRouter(prefix="/v1", route_class=StrictRoute)

CanScore = Annotated[Principal, Depends(require_scope(Scope.SCORE_WRITE, while_stale=True))]
CanRead = Annotated[Principal, Depends(require_scope(Scope.DECISIONS_READ))]


async def scorer(request: Request) -> TransactionScorer:
    """Return the scorer that this service was started with."""
    found: TransactionScorer = request.state.scorer
    return found


async def history(request: Request) -> DecisionHistory:
    """Return the look-up of saved decisions."""
    found: DecisionHistory = request.state.history
    return found


ScorerDep = Annotated[TransactionScorer, Depends(scorer)]
HistoryDep = Annotated[DecisionHistory, Depends(history)]


@router.post(
    "/score",
    tags=["scoring"],
    response_model=ScoredTransaction,
    responses={
        200: {"headers": {"Idempotent-Replay": {"description": "true when the id had been decided before"}}},
        **refusals(
            TransactionIdReusedError,
            EventTimeAheadError,
            DeadlineInvalidError,
            QuotaExceededError,
            DeadlineExceededError,
            OverloadedError,
        ),
    },
)
async def score_transaction(
    transaction: Transaction, caller: CanScore, scorer: ScorerDep, deadline: DeadlineDep
) -> Response:
    """Score a transaction, save the decision, and return it.

    Repeating a `transaction_id` with the same body returns the saved decision.
    """
    return _answered(
        await within(deadline, scorer.score(transaction, caller, now=utc_now(), request_id=request_id()))
    )


@router.get("/decisions/{decision_id}", tags=["decisions"], responses=refusals(NotFoundError, ModelGoneError))
async def get_decision(
    decision_id: Annotated[Identifier, Path()],
    caller: CanRead,
    history: HistoryDep,
    explain: Annotated[
        bool, Query(description="compute the model's reasons where they were not saved")
    ] = False,
) -> ScoredTransaction:
    """Return one decision of the caller's institution."""
    return await history.decision(caller.institution_id, decision_id, explain=explain)


async def wanted(  # noqa: PLR0917 - one parameter for each filter of the API
    outcome: Outcome | None = None,
    policy_outcome: Outcome | None = None,
    risk_level: RiskLevel | None = None,
    customer_id: Identifier | None = None,
    transaction_id: Identifier | None = None,
    since: Annotated[Timestamp | None, Query(description="decided at or after this time")] = None,
    until: Annotated[Timestamp | None, Query(description="decided before this time")] = None,
) -> DecisionFilter:
    """Join the filters of a list."""
    return DecisionFilter(
        outcome=outcome,
        policy_outcome=policy_outcome,
        risk_level=risk_level,
        customer_id=customer_id,
        transaction_id=transaction_id,
        since_ms=None if since is None else int(since.timestamp() * 1000),
        until_ms=None if until is None else int(until.timestamp() * 1000),
    )


@router.get("/transactions", tags=["decisions"], response_model=TransactionPage)
async def list_transactions(
    caller: CanRead,
    history: HistoryDep,
    wanted: Annotated[DecisionFilter, Depends(wanted)],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Return the caller's scored transactions, newest first, a page at a time."""
    page = await history.page(caller.institution_id, wanted, cursor=cursor, limit=limit)
    return Response(page, media_type="application/json")


def _answered(answer: Answer) -> Response:
    add_facts(**answer.facts, replayed=answer.replayed)
    headers = {"Idempotent-Replay": "true"} if answer.replayed else {}
    return Response(answer.body, media_type="application/json", headers=headers)
