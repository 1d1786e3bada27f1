"""The demo: a new institution, thousands of payments through the real services, and a count of what arrived."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from common.clock import utc_now
from common.contracts.transactions import Transaction
from local_stack import report, service_secrets
from local_stack.accounts import Login, access_token, register_sandbox
from local_stack.errors import AlreadyRunningError, NotReadyError, StackError
from local_stack.evidence import Evidence
from local_stack.files import StackFiles
from local_stack.ownership import RunningStack, is_owned
from local_stack.payments import RealLocations, simulated_payments
from local_stack.running import started_stack
from local_stack.sender import Answer, Sender
from local_stack.settings import GeoProvider, StackSettings
from local_stack.tally import Tally, tally

PAYMENTS = 2400
SEED = 20_261_102
ARRIVE_WITHIN_S = 60.0
LOOK_EVERY_S = 0.5


@dataclass(frozen=True)
class Services:
    """Where a running stack is, as far as the demo needs it."""

    files: StackFiles
    ai_service: str
    user_service: str
    external_apis_services: str
    object_store: str
    database_url: str = field(repr=False)


def run_demo(settings: StackSettings, console: Console, *, payments: int) -> Tally:
    """Send `payments` payments and return what became of them; raises `StackError`."""
    with _services(settings, console) as services:
        login = register_sandbox(services.user_service, name="Demo Payments (sandbox)")
        console.print(f"Registered a sandbox institution: {login.institution_id}", highlight=False)
        transactions = _payments(services, payments)
        answers = send_payments(services, login, transactions, console)
        evidence = Evidence(
            services.files,
            login,
            object_store_url=services.object_store,
            database_url=services.database_url,
        )
        with closing(evidence):
            found = await_arrival(evidence, answers, console)
        report.show_demo(console, answers)
    return found


@contextmanager
def _services(settings: StackSettings, console: Console) -> Iterator[Services]:
    """Yield the stack that runs already, or one that runs for the demo alone."""
    files = StackFiles(settings.var_dir.resolve())
    # made-up places have cities, and need nothing from outside
    provider = settings.geoip_provider or GeoProvider.MOCK
    with ExitStack() as until_done:
        try:
            stack = until_done.enter_context(started_stack(settings, console, geoip_provider=provider))
        except AlreadyRunningError:
            stack = None
        if stack is None:
            running = _await_running(settings, files)
            console.print(f"Using the stack that runs already (process {running.pid})", highlight=False)
            urls = {name: part.url for name, part in running.parts.items()}
            yield _where(files, urls, database_url=running.databases["ai_service"])
            return
        console.print(
            f"Started {len(stack.parts)} parts for this demo; their logs are in {files.root / 'logs'}"
        )
        try:
            urls = {part.name: part.url for part in stack.parts}
            yield _where(files, urls, database_url=stack.storage.databases["ai_service"])
        except StackError:
            stack.raise_if_ended()  # says more than that a payment got no answer
            raise


def _where(files: StackFiles, urls: dict[str, str], *, database_url: str) -> Services:
    return Services(
        files=files,
        ai_service=urls["ai_service"],
        user_service=urls["user_service"],
        external_apis_services=urls["external_apis_services"],
        object_store=urls["object_store"],
        database_url=database_url,
    )


def _await_running(settings: StackSettings, files: StackFiles) -> RunningStack:
    """Wait for the other's stack: as long as it prepares, which may take minutes, and then until its parts are ready."""
    deadline = time.monotonic() + settings.ready_timeout_s
    while is_owned(files) and time.monotonic() < deadline:
        running = RunningStack.read(files)
        if running is not None and running.ready:
            return running
        if running is None:
            deadline = time.monotonic() + settings.ready_timeout_s
        time.sleep(LOOK_EVERY_S)
    raise NotReadyError(f"The stack that uses {files.root} did not become ready.")


def _payments(services: Services, count: int) -> list[Transaction]:
    locate = RealLocations(
        url=services.external_apis_services,
        user_service_url=services.user_service,
        client_id="ai_service",  # places are shown to services alone, and this is what ai_service will be told
        secret=service_secrets.load_or_make(services.files)["AI_SERVICE_SECRET"],
    )
    return simulated_payments(count, seed=SEED, now=utc_now(), locate=locate)


def send_payments(
    services: Services, login: Login, transactions: list[Transaction], console: Console
) -> list[Answer]:
    """Send everything, with a progress bar."""
    token = access_token(services.user_service, login)
    with _progress(console) as progress:
        bar = progress.add_task("Scoring payments", total=len(transactions))
        sender = Sender(services.ai_service, token, on_answer=lambda _answer: progress.advance(bar))
        return asyncio.run(sender.send(transactions))


def await_arrival(evidence: Evidence, answers: list[Answer], console: Console) -> Tally:
    """Return the last count: as soon as nothing is missing, or after a minute."""
    acknowledgements = [answer.acknowledgement for answer in answers]
    deadline = time.monotonic() + ARRIVE_WITHIN_S
    with console.status("") as status:
        while True:
            # the mails first: what they tell of was saved before
            mails, archived, saved = evidence.mails(), evidence.archived(), evidence.saved()
            found = tally(acknowledgements, saved=saved, archived=archived, mails=mails)
            if found.is_complete or time.monotonic() > deadline:
                return found
            status.update(
                f"Waiting: {found.archived} of {found.acknowledged} archived, "
                f"{found.alerts_delivered} of {found.alerts_expected} alerts in mails"
            )
            time.sleep(LOOK_EVERY_S)


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)
