"""Builds every collaborator of ai_service once, for all its doors."""

import asyncio
import fcntl
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from ai_service.clients.alerts import TARGET as ALERT
from ai_service.clients.alerts import AlertClient
from ai_service.clients.geoip import GeoIpClient
from ai_service.clients.rates import RatesClient
from ai_service.features import definitions
from ai_service.features import store as velocity_store
from ai_service.features.store import VelocityStore
from ai_service.ml import kernels
from ai_service.ml.predictor import FraudModel
from ai_service.policies.policy import built_in_policies
from ai_service.scoring import repository, saving
from ai_service.scoring.deciding import Deciding
from ai_service.scoring.drafts import Drafts
from ai_service.scoring.enrichment import Enrichment
from ai_service.scoring.history import DecisionHistory
from ai_service.scoring.loading import Scoring, load_scoring
from ai_service.scoring.publisher import Publisher
from ai_service.scoring.recovery import SnapshotKeeper, restore_velocity
from ai_service.scoring.redelivery import relays
from ai_service.scoring.replays import Replays
from ai_service.scoring.service import TransactionScorer
from ai_service.scoring.tables import outbox
from ai_service.settings import AiSettings
from ai_service.usage.redelivery import warning_relay
from ai_service.usage.service import UsageMeter
from common.background import running
from common.circuit import Circuit
from common.clients.logs import TARGET as AUDIT
from common.clients.logs import LogClient
from common.clients.notices import NoticeClient
from common.clock import epoch_ms, utc_now
from common.db import Database, open_database, writing_engine
from common.errors import StartupError
from common.outbox import Outbox
from common.pools import open_pool
from common.rate_limits.limiting import Allowances
from common.relay import InlineSender, Relay
from common.service_calls import ServiceCalls, open_service_calls
from common.writer import DatabaseWriter

MIGRATIONS = Path(__file__).parent / "migrations"
LOOKUP_TIMEOUT_S = 2.0
HISTORY_QUEUE = 32
FAILED_DELIVERIES = 3  # in a row, before a target is left to the relay
RELAY_TIMEOUT_S = 10.0


class AlreadyRunningError(StartupError):
    """Another ai_service process holds the velocity state; with SQLite there can be only one."""


@dataclass(frozen=True)
class Threads:
    """The database threads: one that writes, one that answers look-ups."""

    writer: DatabaseWriter
    reader: DatabaseWriter


@asynccontextmanager
async def build(
    settings: AiSettings, *, allowances: Allowances | None = None
) -> AsyncIterator[Mapping[str, Any]]:
    """Yield what requests find in `request.state`; everything is warm when it is yielded.

    What institutions may ask for is what user_service says of them, unless `allowances` are given.
    """
    async with AsyncExitStack() as stack:
        stack.enter_context(_only_process(settings))
        scoring = await asyncio.to_thread(_warm_scoring, settings)
        database = await stack.enter_async_context(
            open_database(settings.database_url, migrations=MIGRATIONS)
        )
        threads = await stack.enter_async_context(_database_threads(settings))
        velocity = await threads.reader.run(
            lambda c: restore_velocity(c, settings.velocity_snapshot, now_ms=epoch_ms())
        )
        await threads.writer.run(saving.warm_up)
        calls = await stack.enter_async_context(open_service_calls(settings, client_id="ai_service"))
        circuits = {target: Circuit(target, failures_to_open=FAILED_DELIVERIES) for target in (ALERT, AUDIT)}
        allowances = allowances or calls.verifier.access
        usage = await _usage_meter(threads, allowances)
        publisher = await _publisher(
            settings, calls, threads, velocity=velocity, circuits=circuits, usage=usage
        )
        scorer, rates = await _scorer(
            settings, calls, threads, velocity=velocity, scoring=scoring, publisher=publisher, usage=usage
        )
        snapshot = settings.velocity_snapshot
        keeper = SnapshotKeeper(velocity, threads.reader, snapshot, settings.velocity_snapshot_s)
        relayed = [relay.run for relay in await _relays(settings, calls, threads, circuits)]
        history = await _history(settings, stack, threads, scorer.publisher, scoring.model)
        async with running(rates.keep_fresh, scorer.publisher.flush, *relayed, keeper.run):
            yield {
                "scorer": scorer,
                "history": history,
                "usage": usage,
                "allowances": allowances,
                "deadline_ms": settings.deadline_ms,
                "hot_door": settings.hot_door,
                "admissions": {(b"POST", b"/v1/score"): scorer.admission},
                "token_verifier": calls.verifier,
                "database": database,
                "readiness": _readiness(database, calls, rates, scoring.model),
            }
            await scorer.drain()
        await keeper.write()


async def _scorer(
    settings: AiSettings,
    calls: ServiceCalls,
    threads: Threads,
    *,
    velocity: VelocityStore,
    scoring: Scoring,
    publisher: Publisher,
    usage: UsageMeter,
) -> tuple[TransactionScorer, RatesClient]:
    external = await calls.client(settings.external_apis_services_url, timeout_s=LOOKUP_TIMEOUT_S)
    rates = RatesClient(
        external,
        calls.tokens,
        refresh_s=settings.rates_refresh_s,
        wanted=await threads.reader.run(repository.base_currencies),
    )
    geoip = GeoIpClient(
        external,
        calls.tokens,
        timeout_s=settings.geoip_timeout_ms / 1000,
        cache_s=settings.geoip_cache_s,
        cache_size=settings.geoip_cache_size,
    )
    model, rules = scoring.model, scoring.rules
    policies = built_in_policies(model_is_simulated=model.simulated_only)
    for policy in (policies.sandbox, policies.live):
        model.bands(policy.cuts)  # made once, here, rather than while a payer waits
    deciding = Deciding(velocity, scoring.features, model, rules, policies, Drafts(model, rules.version))
    scorer = TransactionScorer(
        Enrichment(rates, geoip, calls.verifier.access),
        deciding,
        publisher,
        usage,
        Replays(threads.reader, publisher),
        max_waiting=settings.max_waiting,
    )
    return scorer, rates


async def _publisher(
    settings: AiSettings,
    calls: ServiceCalls,
    threads: Threads,
    *,
    velocity: VelocityStore,
    circuits: Mapping[str, Circuit],
    usage: UsageMeter,
) -> Publisher:
    delivery_s = settings.delivery_timeout_ms / 1000
    return Publisher(
        threads.writer,
        alerts=AlertClient(
            await calls.courier(settings.alert_service_url, timeout_s=delivery_s),
            calls.tokens,
            circuit=circuits[ALERT],
        ),
        logs=LogClient(
            await calls.courier(settings.log_service_url, timeout_s=delivery_s),
            calls.tokens,
            circuit=circuits[AUDIT],
        ),
        circuits=circuits,
        velocity=velocity,
        usage=usage,
    )


async def _usage_meter(threads: Threads, allowances: Allowances) -> UsageMeter:
    usage = UsageMeter(allowances, Outbox(outbox))
    await threads.reader.run(lambda c: usage.load(c, now=utc_now()))
    return usage


async def _history(
    settings: AiSettings,
    stack: AsyncExitStack,
    threads: Threads,
    publisher: Publisher,
    model: FraudModel,
) -> DecisionHistory:
    pool = await stack.enter_async_context(
        open_pool("history", workers=1, queue=HISTORY_QUEUE, refusal="Too many look-ups are waiting.")
    )
    return DecisionHistory(threads.reader, pool, publisher, model, settings.models_dir)


async def _relays(
    settings: AiSettings, calls: ServiceCalls, threads: Threads, circuits: Mapping[str, Circuit]
) -> Sequence[Relay]:
    to_alerts = await calls.courier(settings.alert_service_url, timeout_s=RELAY_TIMEOUT_S)
    of_decisions = relays(
        threads.writer,
        alerts=AlertClient(to_alerts, calls.tokens),
        logs=LogClient(
            await calls.courier(settings.log_service_url, timeout_s=RELAY_TIMEOUT_S), calls.tokens
        ),
        reader=threads.reader,
        inline={
            target: InlineSender(circuit, settings.delivery_timeout_ms / 1000)
            for target, circuit in circuits.items()
        },
    )
    notices = NoticeClient(to_alerts, calls.tokens)
    return *of_decisions, warning_relay(
        threads.writer, Outbox(outbox), notices=notices, reader=threads.reader
    )


def _readiness(
    database: Database, calls: ServiceCalls, rates: RatesClient, model: FraudModel
) -> Mapping[str, Any]:
    async def model_loaded() -> bool:
        return bool(model.feature_names)

    return {
        "model_loaded": model_loaded,
        "database_connected": database.connected,
        "keys_loaded": calls.keys_loaded,
        "access_known": calls.access_known,
        "service_token_available": calls.token_available,
        "rates_asked": rates.asked,
    }


def _warm_scoring(settings: AiSettings) -> Scoring:
    """Load model and rules and compile every kernel, so that no transaction waits for it."""
    scoring = load_scoring(settings.models_dir, settings.rules_file)
    kernels.warm_up()
    velocity_store.warm_up()
    definitions.warm_up()
    return scoring


@asynccontextmanager
async def _database_threads(settings: AiSettings) -> AsyncIterator[Threads]:
    threads = Threads(
        DatabaseWriter(writing_engine(settings.database_url)),
        DatabaseWriter(writing_engine(settings.database_url)),
    )
    try:
        yield threads
    finally:
        await threads.writer.close()
        await threads.reader.close()


@contextmanager
def _only_process(settings: AiSettings) -> Iterator[None]:
    """Hold a lock beside the snapshot; raises `AlreadyRunningError` when another process holds it."""
    path = settings.velocity_snapshot.with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise AlreadyRunningError(
                f"Another ai_service already uses {path.name} (database "
                f"{make_url(settings.database_url).render_as_string()}). The velocity state lives in one process: "
                "stop the other one, or give this one its own VELOCITY_SNAPSHOT and DATABASE_URL."
            ) from None
        yield
