"""All single parts, one after the other, in this process and on the core that serves."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from ai_service.ml.registry import load_model
from ai_service.ml.training import load_estimator
from bench.figures import Figure
from bench.parts.model import equality_figure, reference_figures, shapley_figures, sklearn_figure
from bench.parts.stages import Stages, replay_figure, simulated_payments
from bench.parts.storage import storage_figures
from bench.parts.tokens import token_figures
from bench.variants import FULL, provide_variant

REPEATS, QUICK_REPEATS = 7, 2


def part_figures(home: Path, *, core: int, is_quick: bool, say: Callable[[str], None]) -> Iterator[Figure]:
    """Measure every part and yield its figure."""
    home.mkdir(parents=True, exist_ok=True)
    folder = provide_variant(FULL, home).model_folder
    model, estimator = load_model(folder), load_estimator(folder)
    repeats = QUICK_REPEATS if is_quick else REPEATS
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        say("Single parts: tokens, stages")
        yield from token_figures(repeats=repeats)
        payments = simulated_payments()
        stages = Stages(payments, home, repeats=repeats)
        yield from stages.figures(model)
        yield replay_figure(payments)
        say("Single parts: model, Shapley values, commits")
        yield equality_figure(model, estimator, stages.rows)
        yield sklearn_figure(estimator, stages.rows)
        yield from shapley_figures("one_row", model, stages.rows, repeats=repeats)
        yield from reference_figures(repeats=repeats)
        yield from storage_figures(home, stages.drafts)
    finally:
        os.sched_setaffinity(0, before)
