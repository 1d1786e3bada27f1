"""Changes the model while transactions are scored: each batch is decided by one model entirely."""

import asyncio
from collections.abc import Callable

import structlog
from prometheus_client import Gauge

from ai_service.ml.choices import latest_choice
from ai_service.ml.predictor import FraudModel
from ai_service.ml.saved import ModelChoice
from ai_service.scoring.deciding import Deciding
from common.errors import StartupError
from common.writer import DatabaseWriter

IN_USE = Gauge(
    "assay_model_processes",
    "Processes that score with a model.",
    ["model", "version"],
    multiprocess_mode="livesum",
)
NOT_LOADED = Gauge(
    "assay_model_not_loaded",
    "1 while the model that was chosen cannot be loaded and another one is used.",
    multiprocess_mode="livemax",
)
Prepare = Callable[[ModelChoice | None], Deciding]
"""Loads a model (None: the one the models folder names) and makes everything ready; raises `StartupError`."""
_log = structlog.get_logger()


class ModelSwitch:
    """What this process decides with, and what it should.

    A model that cannot be loaded here leaves the one before in use; that is visible, and tried again.
    """

    def __init__(self, reader: DatabaseWriter, prepare: Prepare) -> None:
        self._reader = reader
        self._prepare = prepare
        self._use: Callable[[Deciding], None] = lambda _: None
        self._missing: ModelChoice | None = None
        self._deciding: Deciding | None = None

    async def first(self) -> Deciding:
        """Return what to begin with: the chosen model, or else the folder's own; raises `StartupError`."""
        choice = await self._reader.run(latest_choice)
        try:
            deciding = await asyncio.to_thread(self._prepare, choice)
        except StartupError as error:
            if choice is None:
                raise
            self._cannot(choice, error)
            deciding = await asyncio.to_thread(self._prepare, None)
        self._show(deciding)
        return deciding

    def hand_to(self, use: Callable[[Deciding], None], *, when_behind: Callable[[], None]) -> None:
        """Say who decides, and have the chosen model tried again if `first` could not load it."""
        self._use = use
        if self._missing is not None:
            when_behind()

    @property
    def model(self) -> FraudModel:
        """Return the model in use."""
        assert self._deciding is not None  # noqa: S101 - `first` was called at the start
        return self._deciding.model

    async def take_over(self, _scope: str) -> None:
        """Decide with the model that was chosen last; raises `StartupError` when it cannot be loaded."""
        choice = await self._reader.run(latest_choice)
        try:
            deciding = await asyncio.to_thread(self._prepare, choice)
        except StartupError as error:
            self._cannot(choice, error)
            raise
        self._missing = None
        NOT_LOADED.set(0)
        self._use(deciding)
        self._show(deciding)
        _log.info("model.switched", model=deciding.model.name, version=deciding.model.version)

    def details(self) -> dict[str, str | None]:
        """Return what `/ready` says of it."""
        wanted = self._missing
        return {
            "in_use": f"{self.model.name}/{self.model.version}",
            "not_loaded": None if wanted is None else f"{wanted.name}/{wanted.version}",
        }

    def _cannot(self, choice: ModelChoice | None, error: StartupError) -> None:
        self._missing = choice
        NOT_LOADED.set(1)
        _log.error("model.not_loaded", reason=str(error))

    def _show(self, deciding: Deciding) -> None:
        if self._deciding is not None:
            IN_USE.labels(self._deciding.model.name, self._deciding.model.version).set(0)
        self._deciding = deciding
        IN_USE.labels(deciding.model.name, deciding.model.version).set(1)
