"""The stages of scoring in this process: every payment goes through each, so that no two rows are alike."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ai_service.features import definitions
from ai_service.features import store as velocity_store
from ai_service.features.accepted import AcceptedTransaction, accept
from ai_service.features.definitions import FEATURE_NAMES, FeaturePlan, plan_features
from ai_service.features.store import EmbeddedVelocity
from ai_service.features.velocity import VelocityReading
from ai_service.ml import kernels
from ai_service.ml.examples import replay, simulated_rates
from ai_service.ml.predictor import FraudModel
from ai_service.ml.simulator import SimulatedTransaction, simulate
from ai_service.policies.policy import Policy
from ai_service.rules.catalog import read_catalog
from ai_service.scoring.decision import decide
from ai_service.scoring.drafts import Drafts
from ai_service.scoring.record import Draft
from bench.figures import Aim, Better, Figure
from bench.models import lean_features
from bench.parts.timing import per_item_us
from bench.rulesets import generated_rules, write_rules
from bench.stream import MONDAY, SEED
from common.contracts.geoip import GeoLocation
from common.contracts.institutions import Institution, InstitutionMode
from common.contracts.transactions import Transaction
from common.strict_json import read_model

INSTITUTION = Institution(institution_id="ins_bench", mode=InstitutionMode.SANDBOX, base_currency="EUR")
CUSTOMERS, DAYS = 400, 10
RULES = (10, 100)
RULES_AIMS = {100: Aim(Better.LOWER, 300, 100)}
REPLAY_AIM = Aim(Better.HIGHER, 20_000, 50_000)


@dataclass
class Stages:
    """Payments, and what the stages made of them so far."""

    payments: Sequence[SimulatedTransaction]
    home: Path
    repeats: int

    def __post_init__(self) -> None:
        kernels.warm_up()
        velocity_store.warm_up()
        definitions.warm_up()
        self.rates = simulated_rates(MONDAY)
        self.locations = [payment.location for payment in self.payments]

    def figures(self, model: FraudModel) -> Iterator[Figure]:
        """Yield the time of each stage, in microseconds a payment; `drafts` holds the results afterwards."""
        yield self._parse()
        self.accepted = [self._accept(transaction) for transaction in self.transactions]
        yield self._observe()
        yield from self._features()
        yield self._predict(model)
        yield from self._rules()
        yield self._decide()
        yield from self._record(model)

    def _parse(self) -> Figure:
        bodies = [payment.transaction.body for payment in self.payments]
        value, self.transactions = per_item_us(
            lambda body: read_model(body, Transaction), bodies, repeats=self.repeats
        )
        size = sum(map(len, bodies)) // len(bodies)
        return Figure(
            "parse_and_validate", value, "us", note=f"{size} bytes; its canonical form is made in here"
        )

    def _accept(self, transaction: Transaction) -> AcceptedTransaction:
        amount = self.rates.convert(
            transaction.amount, transaction.currency, base_currency="EUR", at=transaction.event_time
        )
        return accept(
            transaction,
            INSTITUTION,
            amount_base_minor=amount,
            now=transaction.event_time,
            accepted_by="usr_bench",
            request_id="req-bench",
        )

    def _observe(self) -> Figure:
        best = float("inf")
        for _ in range(self.repeats):
            store = EmbeddedVelocity()
            value, self.readings = per_item_us(
                lambda pair, store=store: _observed(store, *pair),  # type: ignore[misc]
                list(zip(self.accepted, self.locations, strict=True)),
                repeats=1,
            )
            best = min(best, value)
        return Figure("velocity_observe", best, "us", note="an empty store that fills up; `saved` included")

    def _features(self) -> Iterator[Figure]:
        given = list(zip(self.accepted, self.locations, self.readings, strict=True))
        for name, plan in (("lean", plan_features(lean_features())), ("all", definitions.ALL_FEATURES)):
            value, self.rows = per_item_us(
                lambda each, plan=plan: _built(plan, *each),  # type: ignore[misc]
                given,
                repeats=self.repeats,
            )
            yield Figure(f"build_features_{name}", value, "us", note=f"{len(plan.names)} features")

    def _predict(self, model: FraudModel) -> Figure:
        value, self.probabilities = per_item_us(model.predict, self.rows, repeats=self.repeats)
        note = f"{len(model.trees.roots)} trees, {len(model.feature_names)} features, another row each time"
        return Figure("model_one_row", value, "us", aim=Aim(Better.LOWER, 10, 5), note=note)

    def _rules(self) -> Iterator[Figure]:
        for count in RULES:
            path = write_rules(
                self.home / "rules" / f"parts-{count}.yaml", generated_rules(count, FEATURE_NAMES)
            )
            rules = read_catalog(path).compiled()
            given = list(zip(self.accepted, self.locations, self.rows, self.probabilities, strict=True))
            value, self.hits = per_item_us(
                lambda each, rules=rules: rules.evaluate(*each),  # type: ignore[misc]
                given,
                repeats=self.repeats,
            )
            read = min(len(FEATURE_NAMES), 80)
            yield Figure(
                f"rules_{count}",
                value,
                "us",
                aim=RULES_AIMS.get(count),
                note=f"over {read} features, all live",
            )

    def _decide(self) -> Figure:
        policy = Policy()
        given = list(zip(self.probabilities, self.hits, strict=True))
        value, self.decisions = per_item_us(
            lambda each: decide(*each, policy=policy), given, repeats=self.repeats
        )
        return Figure("decide", value, "us")

    def _record(self, model: FraudModel) -> Iterator[Figure]:
        drafts = Drafts(model, 1)
        given = list(
            zip(self.accepted, self.locations, self.readings, self.rows, self.decisions, strict=True)
        )
        plain = [each for each in given if not each[-1].flagged]
        value, made = per_item_us(lambda each: drafts.make(*each).numbered(1), plain, repeats=self.repeats)
        size = sum(map(len, made)) // len(made)
        yield Figure("record", value, "us", note=f"draft and canonical bytes, {size:,} of them; not flagged")
        self.drafts: list[Draft] = [drafts.make(*each) for each in given]
        flagged = [each for each in given if each[-1].flagged]
        if flagged:
            value, _ = per_item_us(lambda each: drafts.make(*each).numbered(1), flagged, repeats=self.repeats)
            yield Figure("record_flagged", value, "us", note="with exact Shapley values and reasons")


def replay_figure(payments: Sequence[SimulatedTransaction]) -> Figure:
    """Return how many payments of a history a second one core turns into features, all of them."""
    us, _ = per_item_us(
        lambda history: replay(history, rates=simulated_rates(MONDAY), advance=_nothing),
        [payments],
        repeats=1,
    )
    note = f"{len(payments):,} payments, {len(FEATURE_NAMES)} features"
    return Figure("feature_replay", len(payments) / us * 1e6, "tx/s", aim=REPLAY_AIM, note=note)


def simulated_payments() -> list[SimulatedTransaction]:
    """Return the payments that the stages get, frauds among them."""
    return list(simulate(seed=SEED, start=MONDAY, customers=CUSTOMERS, days=DAYS))


def _observed(
    store: EmbeddedVelocity, accepted: AcceptedTransaction, location: GeoLocation
) -> VelocityReading:
    reading = store.observe(accepted, location)
    store.saved([(accepted.institution_id, accepted.transaction.transaction_id)])
    return reading


def _built(
    plan: FeaturePlan, accepted: AcceptedTransaction, location: GeoLocation, reading: VelocityReading
) -> NDArray[np.float64]:
    return plan.build(accepted, location=location, velocity=reading)


def _nothing() -> None:
    """Count nothing."""
