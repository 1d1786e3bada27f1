"""Builds every collaborator of ai_service once, for all its doors.

`build` is over the house limit: it is one list of what is opened, in the order in which it is closed again.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from ai_service.changes import Topic, changes
from ai_service.clients.alerts import TARGET as ALERT
from ai_service.clients.alerts import AlertClient
from ai_service.clients.geoip import GeoIpClient
from ai_service.clients.rates import RatesClient
from ai_service.features import definitions
from ai_service.features import store as velocity_store
from ai_service.features.store import VelocityStore
from ai_service.ml import kernels
from ai_service.ml.saved import ModelChoice
from ai_service.only_process import OnlyProcess, only_process
from ai_service.policies.policy import built_in_policies
from ai_service.scoring import repository
from ai_service.scoring.deciding import Deciding
from ai_service.scoring.decision_store import open_decision_store
from ai_service.scoring.drafts import Drafts
from ai_service.scoring.enrichment import Enrichment
from ai_service.scoring.history import DecisionHistory
from ai_service.scoring.loading import load_scoring
from ai_service.scoring.partitions import partitions_kept
from ai_service.scoring.publisher import Publisher
from ai_service.scoring.redelivery import relays as decision_relays
from ai_service.scoring.replays import Replays
from ai_service.scoring.service import TransactionScorer
from ai_service.scoring.switching import ModelSwitch
from ai_service.scoring.tables import outbox
from ai_service.scoring.velocity_opening import open_velocity
from ai_service.settings import AiSettings
from ai_service.usage.redelivery import warning_relay
from ai_service.usage.service import UsageMeter
from common.app import ReadinessCheck
from common.background import Loop, running
from common.changes.repository import Subject, versions
from common.changes.watch import ChangeWatch
from common.circuit import Circuit
from common.clients.logs import TARGET as AUDIT
from common.clients.logs import LogClient
from common.clients.notices import NoticeClient
from common.clock import utc_now
from common.db import Database, open_database, writing_engine
from common.outbox import Outbox
from common.pools import open_pool
from common.postgres.listening import watching_loops
from common.rate_limits.limiting import Allowances
from common.relay import InlineSender, Relay
from common.replica import open_replica
from common.service_calls import ServiceCalls, open_service_calls
from common.valkey.calls import open_shared
from common.writer import DatabaseWriter

MIGRATIONS = Path(__file__).parent / "migrations"
LOOKUP_TIMEOUT_S = 2.0
HISTORY_QUEUE = 32
FAILED_DELIVERIES = 3  # in a row, before a target is left to the relay
RELAY_TIMEOUT_S = 10.0


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
        valkey = await stack.enter_async_context(open_shared(settings))
        only = await stack.enter_async_context(only_process(settings))
        await asyncio.to_thread(_warm_kernels)
        database = await stack.enter_async_context(
            open_database(settings.database_url, migrations=MIGRATIONS, production=settings.is_production)
        )
        threads = await stack.enter_async_context(_database_threads(settings))
        counting = await stack.enter_async_context(
            open_velocity(settings, valkey, reader=threads.reader, writer=threads.writer)
        )
        calls = await stack.enter_async_context(
            open_service_calls(settings, client_id="ai_service", valkey=valkey)
        )
        models, watch = await _models(settings, threads, counting.store)
        circuits = {target: Circuit(target, failures_to_open=FAILED_DELIVERIES) for target in (ALERT, AUDIT)}
        usage = await _usage_meter(threads, allowances or calls.verifier.access)
        scorer, rates = await _scorer(
            settings, calls, threads, stack, deciding=await models.first(), circuits=circuits, usage=usage
        )
        models.hand_to(scorer.use, when_behind=partial(watch.try_again, Topic.MODEL))
        relays = await _relays(settings, calls, threads, circuits)
        history = await _history(settings, stack, threads, scorer.publisher, models)
        partitions = await stack.enter_async_context(partitions_kept(settings.database_url))
        loops = [*(relay.run for relay in relays), *_shared_loops(settings, threads, usage, watch)]
        loops += [rates.keep_fresh, scorer.publisher.flush, *counting.loops, *partitions]
        connected = partial(_connected, database, scorer.publisher)
        async with running(*loops):
            yield {
                "scorer": scorer,
                "history": history,
                "usage": usage,
                "allowances": allowances or calls.verifier.access,
                "deadline_ms": settings.deadline_ms,
                "hot_door": settings.hot_door,
                "admissions": {(b"POST", b"/v1/score"): scorer.admission},
                "token_verifier": calls.verifier,
                "valkey": valkey,
                "database": database,
                "readiness": {**_readiness(connected, calls, rates, models, only), **counting.readiness},
                "details": {"model": models.details},
            }
            await scorer.drain()


async def _scorer(
    settings: AiSettings,
    calls: ServiceCalls,
    threads: Threads,
    stack: AsyncExitStack,
    *,
    deciding: Deciding,
    circuits: Mapping[str, Circuit],
    usage: UsageMeter,
) -> tuple[TransactionScorer, RatesClient]:
    publisher = await _publisher(
        settings, calls, threads, stack, velocity=deciding.velocity, circuits=circuits, usage=usage
    )
    external = await calls.client(settings.external_apis_services_url, timeout_s=LOOKUP_TIMEOUT_S)
    rates = RatesClient(
        external,
        calls.tokens,
        refresh_s=settings.rates_refresh_s,
        wanted=await threads.reader.run(repository.base_currencies),
    )
    geoip = GeoIpClient(
        await calls.courier(settings.external_apis_services_url, timeout_s=LOOKUP_TIMEOUT_S),
        calls.tokens,
        timeout_s=settings.geoip_timeout_ms / 1000,
        cache_s=settings.geoip_cache_s,
        cache_size=settings.geoip_cache_size,
    )
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
    stack: AsyncExitStack,
    *,
    velocity: VelocityStore,
    circuits: Mapping[str, Circuit],
    usage: UsageMeter,
) -> Publisher:
    delivery_s = settings.delivery_timeout_ms / 1000
    store = open_decision_store(settings.database_url, threads.writer, usage)
    return Publisher(
        await stack.enter_async_context(store),
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
    models: ModelSwitch,
) -> DecisionHistory:
    pool = await stack.enter_async_context(
        open_pool("history", workers=1, queue=HISTORY_QUEUE, refusal="Too many look-ups are waiting.")
    )
    lists = await stack.enter_async_context(open_replica(settings.read_database_url, threads.reader))
    return DecisionHistory(threads.reader, lists, pool, publisher, models, settings.models_dir)


async def _relays(
    settings: AiSettings, calls: ServiceCalls, threads: Threads, circuits: Mapping[str, Circuit]
) -> Sequence[Relay]:
    to_alerts = await calls.courier(settings.alert_service_url, timeout_s=RELAY_TIMEOUT_S)
    of_decisions = decision_relays(
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


async def _connected(database: Database, publisher: Publisher) -> bool:
    """Say whether look-ups and commits, each on connections of their own, reach the database."""
    return await database.connected() and await publisher.connected()


def _readiness(
    connected: ReadinessCheck,
    calls: ServiceCalls,
    rates: RatesClient,
    models: ModelSwitch,
    only: OnlyProcess,
) -> Mapping[str, Any]:
    async def model_loaded() -> bool:
        return bool(models.model.feature_names)

    return {
        "model_loaded": model_loaded,
        "database_connected": connected,
        "only_process": only.held,
        "keys_loaded": calls.keys_loaded,
        "access_known": calls.access_known,
        "service_token_asked": calls.token_asked,
        "rates_asked": rates.asked,
    }


async def _models(
    settings: AiSettings, threads: Threads, velocity: VelocityStore
) -> tuple[ModelSwitch, ChangeWatch]:
    """Return what chooses the model, and what watches for changes from now on: nothing of them was read before."""
    models = ModelSwitch(threads.reader, partial(_deciding, settings, velocity))
    watch = ChangeWatch(partial(threads.reader.run, _changes), {Topic.MODEL: models.take_over})
    await watch.start()
    return models, watch


def _shared_loops(
    settings: AiSettings, threads: Threads, usage: UsageMeter, watch: ChangeWatch
) -> Sequence[Loop]:
    """Return what keeps this process in step with others."""
    watching = watching_loops(watch, settings.database_url)
    if not settings.may_have_others:
        return watching
    return [*watching, partial(usage.keep_fresh, threads.reader)]


def _changes(connection: Connection) -> Mapping[Subject, int]:
    return versions(connection, changes)


def _warm_kernels() -> None:
    """Compile every kernel, so that no transaction waits for it."""
    kernels.warm_up()
    velocity_store.warm_up()
    definitions.warm_up()


def _deciding(settings: AiSettings, velocity: VelocityStore, choice: ModelChoice | None) -> Deciding:
    """Load what decides with a chosen model, and make everything that it makes once; raises `StartupError`."""
    scoring = load_scoring(settings.models_dir, settings.rules_file, choice)
    model, rules = scoring.model, scoring.rules
    policies = built_in_policies(model_is_simulated=model.simulated_only)
    for policy in (policies.sandbox, policies.live):
        model.bands(policy.cuts)  # made once, here, rather than while a payer waits
    return Deciding(velocity, scoring.features, model, rules, policies, Drafts(model, rules.version))


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
