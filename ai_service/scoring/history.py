"""Looks up what was decided: one decision, explained on request, and pages of transactions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ai_service.ml.predictor import FraudModel
from ai_service.ml.registry import ModelRefusedError, load_model
from ai_service.scoring import repository
from ai_service.scoring.explanation import model_reasons, signals
from ai_service.scoring.publisher import Publisher
from ai_service.scoring.record import feature_vector, parse_record
from ai_service.scoring.repository import AlreadySaved, DecisionFilter
from ai_service.scoring.switching import ModelSwitch
from common.contracts.decisions import (
    ReasonSource,
    ScoredTransaction,
    TransactionPage,
    TransactionSummary,
)
from common.cursors import from_cursor, to_cursor
from common.errors import NotFoundError, PlatformError
from common.pools import BoundedPool
from common.replica import Reads
from common.writer import DatabaseWriter


class ModelGoneError(PlatformError):
    """The model that scored is no longer among the saved models."""

    status_code = 409
    type = "model-gone"
    title = "The model that scored this decision is no longer here, so it cannot be explained again"


@dataclass(frozen=True)
class DecisionHistory:
    """Answers questions about saved decisions of one institution at a time.

    `lists` may be a replica that lags behind; one decision is looked up where it was saved.
    Pages and explanations are made in `pool`: a page takes as long as twenty transactions, which would wait for it.
    """

    reader: DatabaseWriter
    lists: Reads
    pool: BoundedPool
    publisher: Publisher
    models: ModelSwitch
    models_dir: Path

    async def decision(self, institution_id: str, decision_id: str, *, explain: bool) -> ScoredTransaction:
        """Return one decision; raises `NotFoundError`, and `ModelGoneError` when it is to be explained."""
        told = self.publisher.told_lately()
        found = await self.reader.run(lambda c: repository.find_decision(c, institution_id, decision_id))
        if found is None:
            raise NotFoundError
        found = found.without(told)
        scored = found.scored()
        if not explain or scored.signals is not None:
            return scored
        return await self.pool.run(lambda: self._explained(scored, found))

    async def page(
        self, institution_id: str, wanted: DecisionFilter, *, cursor: str | None, limit: int
    ) -> bytes:
        """Return a page of transactions, newest first, as JSON; raises `CursorInvalidError`."""
        before, told = from_cursor(cursor), self.publisher.told_lately()
        rows = await self.lists.run(
            lambda c: repository.list_decisions(c, institution_id, wanted, before=before, limit=limit + 1)
        )
        return await self.pool.run(lambda: _page(rows, told, limit=limit))

    def _explained(self, scored: ScoredTransaction, found: AlreadySaved) -> ScoredTransaction:
        model = self._model(scored.model.name, scored.model.version)
        features = feature_vector(parse_record(found.body), model.feature_names)
        contributions = model.contributions(features)
        rules = [reason for reason in scored.reasons if reason.source is not ReasonSource.MODEL]
        reasons = (*rules, *model_reasons(features, contributions, model.feature_names))
        return scored.model_copy(
            update={"reasons": reasons, "signals": signals(contributions, model.feature_names)}
        )

    def _model(self, name: str, version: str) -> FraudModel:
        model = self.models.model
        if (model.name, model.version) == (name, version):
            return model
        try:
            return load_model(self.models_dir / name / version)
        except (ModelRefusedError, OSError):
            raise ModelGoneError from None


def _page(rows: Sequence[AlreadySaved], told: frozenset[tuple[str, str]], *, limit: int) -> bytes:
    items = tuple(_summary(row.without(told)) for row in rows[:limit])
    cursor = to_cursor(items[-1].decision.decision_sequence) if len(rows) > limit else None
    return TransactionPage(items=items, next_cursor=cursor).model_dump_json().encode()


def _summary(row: AlreadySaved) -> TransactionSummary:
    return TransactionSummary(transaction=parse_record(row.body)["transaction"], decision=row.scored())
