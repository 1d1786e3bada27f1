"""The usual scoring service, written as its tools' own tutorials do: nothing is shared, grouped or compiled.

It is given the product's features and rules, which are fast, and does the same work: it checks the token, locates the
address, computes features, asks scikit-learn, evaluates the rules, decides, commits the decision by the ORM, and then
tells alert_service (the product's) and its own log service at the same time. Velocity is counted in this process.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from math import isnan
from typing import Annotated, Any

import httpx
from fastapi import Depends, FastAPI, Header, HTTPException, Request
from jose import JWTError, jwt
from sqlalchemy.orm import Session
from starlette.datastructures import State

from ai_service.features.accepted import AcceptedTransaction, accept
from ai_service.features.definitions import plan_features
from ai_service.features.store import EmbeddedVelocity
from ai_service.ml.calibration import sigmoid
from ai_service.ml.examples import simulated_rates
from ai_service.ml.registry import load_model
from ai_service.ml.training import SIMULATION_START, load_estimator
from ai_service.policies.policy import Policy
from ai_service.rules.catalog import read_catalog
from ai_service.scoring.decision import Decision, decide
from bench.naive.calls import Calls
from bench.naive.settings import ScoringSettings
from bench.naive.tables import Decision as DecisionRow
from bench.naive.tables import open_engine
from common.clock import utc_now
from common.contracts.alerts import AlertRequest
from common.contracts.decisions import Reason, ReasonSource
from common.contracts.geoip import GeoLocation, GeoLookup, GeoStatus
from common.contracts.institutions import Institution
from common.contracts.tokens import ALGORITHM
from common.contracts.transactions import Transaction
from common.ids import new_id

ISSUER = AUDIENCE = "assay"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Load the model and open what requests share."""
    state, settings = app.state, ScoringSettings()
    state.settings = settings
    state.estimator = load_estimator(settings.model_folder)
    model = load_model(settings.model_folder)
    state.plan, state.calibration = plan_features(model.feature_names), model.calibration
    state.rules = read_catalog(settings.rules_file).compiled(feature_names=state.plan.names)
    state.velocity, state.rates, state.policy = (
        EmbeddedVelocity(),
        simulated_rates(SIMULATION_START),
        Policy(),
    )
    state.engine = open_engine(settings.database_url)
    async with httpx.AsyncClient(timeout=30) as client:
        keys = (await client.get(f"{settings.user_service_url}/.well-known/jwks.json")).json()["keys"]
        state.keys = {key["kid"]: key for key in keys}
        token = await _service_token(client, settings)
        state.calls = Calls(None if settings.client_per_call else client, token)
        yield
    state.engine.dispose()


app = FastAPI(lifespan=lifespan)


def session(request: Request) -> Iterator[Session]:
    """Open a session for one request."""
    with Session(request.app.state.engine, expire_on_commit=False) as opened:
        yield opened


def institution(request: Request, authorization: Annotated[str, Header()]) -> Institution:
    """Check the caller's token and return who it belongs to."""
    token = authorization.removeprefix("Bearer ")
    try:
        key = request.app.state.keys[jwt.get_unverified_header(token)["kid"]]
        claims = jwt.decode(token, key, algorithms=[ALGORITHM], audience=AUDIENCE, issuer=ISSUER)
    except (JWTError, KeyError):
        raise HTTPException(401) from None
    return Institution(
        institution_id=claims["institution_id"],
        mode=claims["institution_mode"],
        base_currency=claims["base_currency"],
    )


@app.post("/v1/score")
async def score(
    transaction: Transaction,
    owner: Annotated[Institution, Depends(institution)],
    database: Annotated[Session, Depends(session)],
    request: Request,
) -> dict[str, Any]:
    """Score a transaction, save the decision, tell the others, and answer."""
    state, now = request.app.state, utc_now()
    amount = state.rates.convert(
        transaction.amount, transaction.currency, base_currency=owner.base_currency, at=transaction.event_time
    )
    accepted = accept(
        transaction, owner, amount_base_minor=amount, now=now, accepted_by="naive", request_id=new_id("req")
    )
    location = await _location(state, transaction)
    velocity = state.velocity.observe(accepted, location)
    features = state.plan.build(accepted, location=location, velocity=velocity)
    raw = state.estimator.decision_function(features.reshape(1, -1))[0]
    probability = float(sigmoid(state.calibration.slope * raw + state.calibration.intercept))
    hits = state.rules.evaluate(accepted, location, features, probability)
    decision = decide(probability, hits, policy=state.policy)

    decision_id = new_id("dec")
    row = DecisionRow(
        decision_id=decision_id,
        institution_id=owner.institution_id,
        transaction_id=transaction.transaction_id,
        customer_id=transaction.customer_id,
        outcome=decision.outcome.value,
        risk_level=decision.risk_level.value,
        fraud_probability=probability,
        request=transaction.model_dump(mode="json", exclude_none=True),
        features=dict(zip(state.plan.names, map(_or_none, features.tolist()), strict=True)),
        created_at=now,
    )
    database.add(row)
    database.commit()

    answer = _answer(row, decision)
    calls = [state.calls.post(f"{state.settings.log_url}/records", {**answer, "request": row.request})]
    if decision.flagged:
        alert = _alert(row, decision, accepted, location)
        calls.append(state.calls.post(f"{state.settings.alert_url}/v1/internal/alerts", {"alerts": [alert]}))
    await asyncio.gather(*calls)
    return answer


async def _location(state: State, transaction: Transaction) -> GeoLocation:
    if transaction.ip_address is None:
        return GeoLocation(status=GeoStatus.UNKNOWN)
    url = f"{state.settings.geoip_url}/v1/internal/geoip/{transaction.ip_address}"
    return GeoLookup.model_validate(await state.calls.get(url)).location


def _answer(row: DecisionRow, decision: Decision) -> dict[str, Any]:
    return {
        "decision_id": row.decision_id,
        "transaction_id": row.transaction_id,
        "outcome": row.outcome,
        "risk_score": round(decision.risk_score),
        "risk_level": row.risk_level,
        "fraud_probability": row.fraud_probability,
        "reasons": [reason.model_dump(mode="json") for reason in _reasons(decision)],
        "created_at": row.created_at.isoformat(),
    }


def _reasons(decision: Decision) -> list[Reason]:
    return [
        Reason(
            code=hit.rule.rule_id.upper(),
            message=hit.rule.message,
            contribution=hit.rule.score_modifier,
            source=ReasonSource.RULE,
        )
        for hit in decision.rule_hits
    ]


def _alert(
    row: DecisionRow, decision: Decision, accepted: AcceptedTransaction, location: GeoLocation
) -> dict[str, Any]:
    transaction = accepted.transaction
    return AlertRequest(
        alert_id=new_id("alr"),
        institution=accepted.institution,
        decision_id=row.decision_id,
        decision_sequence=1,
        transaction_id=row.transaction_id,
        customer_id=row.customer_id,
        request_id=accepted.request_id,
        outcome=decision.outcome,
        policy_outcome=decision.policy_outcome,
        risk_score=round(decision.risk_score),
        risk_level=decision.risk_level,
        fraud_probability=row.fraud_probability,
        amount=transaction.amount,
        currency=transaction.currency,
        transaction_type=transaction.transaction_type.value,
        country=location.country,
        reasons=tuple(_reasons(decision)),
        event_time=transaction.event_time,
        decided_at=row.created_at,
    ).model_dump(mode="json")


def _or_none(value: float) -> float | None:
    """JSON knows no NaN."""
    return None if isnan(value) else value


async def _service_token(client: httpx.AsyncClient, settings: ScoringSettings) -> str:
    credentials = {
        "client_id": "ai_service",
        "client_secret": settings.client_secret.get_secret_value(),
    }
    answer = await client.post(f"{settings.user_service_url}/v1/internal/service-tokens", json=credentials)
    answer.raise_for_status()
    token: str = answer.json()["access_token"]
    return token
