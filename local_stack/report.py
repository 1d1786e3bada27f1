"""What the person at the terminal sees."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table

from common.contracts.decisions import Outcome
from local_stack.accounts import Login
from local_stack.sender import Answer
from local_stack.stack import Stack
from local_stack.tally import Tally

EXAMPLES = 3
_STYLES = {
    Outcome.APPROVE: "green",
    Outcome.CHALLENGE: "yellow",
    Outcome.REVIEW: "magenta",
    Outcome.DECLINE: "red",
}


def show_stack(console: Console, stack: Stack, login: Login) -> None:
    """Print the one table of what runs, where to look, and how to log in."""
    console.print(_parts_table(stack))
    console.print(f"Mailbox    {stack.url('mailbox')}/", highlight=False)
    console.print(f"API pages  {stack.url('ai_service')}/docs (each service has its own)", highlight=False)
    console.print(
        f"Data       {stack.files.root}   logs in {stack.files.log('ai_service').parent}", soft_wrap=True
    )
    console.print(
        f"Login      {login.email}  {login.password}   ({login.institution_name})",
        soft_wrap=True,
        highlight=False,
    )
    console.print("Operator   make operator prints a token of one who runs this platform", highlight=False)
    console.print("A token for the login, and a first decision:")
    # plain, so that it can be copied as it is
    console.print(_first_steps(stack, login), soft_wrap=True, highlight=False, markup=False, style="cyan")
    console.print("Ctrl-C stops everything. In a second terminal: make demo", style="bold")


def _parts_table(stack: Stack) -> Table:
    table = Table(title="Assay on this machine", title_justify="left")
    for heading in ("service", "address", "ready"):
        table.add_column(heading, no_wrap=True)
    table.add_column("what it is", overflow="fold")
    for part in stack.parts:
        address = part.url + (part.page if part.page and part.page != "/" else "")
        table.add_row(part.name, address, "[green]yes[/green]", part.summary)
    return table


def _first_steps(stack: Stack, login: Login) -> str:
    credentials = json.dumps({"email": login.email, "password": login.password})
    payment = json.dumps(
        {
            "transaction_id": "first-'$(date +%s)'",
            "event_time": "'$(date +%Y-%m-%dT%H:%M:%S%:z)'",
            "amount": "249.90",
            "currency": "EUR",
            "transaction_type": "payment",
            "customer_id": "customer-1",
            "ip_address": "81.2.69.160",
        }
    )
    return (
        f"TOKEN=$(curl -s {stack.url('user_service')}/v1/auth/login -H 'Content-Type: application/json' \\\n"
        f'  -d \'{credentials}\' | sed \'s/.*"access_token":"\\([^"]*\\)".*/\\1/\')\n'
        f'curl -s {stack.url("ai_service")}/v1/score -H "Authorization: Bearer $TOKEN" '
        f"-H 'Content-Type: application/json' \\\n  -d '{payment}'"
    )


def show_demo(console: Console, answers: Sequence[Answer]) -> None:
    """Print outcomes, latencies, and a few decisions with their reasons."""
    console.print(_outcomes_table(answers))
    latencies = sorted(answer.latency_ms for answer in answers)
    p50, p95, p99 = (percentile(latencies, share) for share in (0.50, 0.95, 0.99))
    console.print(f"Latency as the caller saw it: p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms")
    for answer in examples(answers):
        console.print(_example(answer))


def percentile(ascending: Sequence[float], share: float) -> float:
    """Return the smallest value that is not below `share` of all values."""
    return ascending[min(len(ascending) - 1, int(share * len(ascending)))]


def examples(answers: Sequence[Answer]) -> list[Answer]:
    """Return the riskiest decision of each outcome that has reasons, the strictest outcomes first."""
    riskiest: dict[Outcome, Answer] = {}
    for answer in sorted(answers, key=lambda answer: answer.scored.risk_score):
        if answer.scored.reasons:
            riskiest[answer.scored.outcome] = answer
    return [riskiest[outcome] for outcome in reversed(Outcome) if outcome in riskiest][:EXAMPLES]


def _outcomes_table(answers: Sequence[Answer]) -> Table:
    counts = Counter(answer.scored.outcome for answer in answers)
    table = Table(title=f"{len(answers)} payments", title_justify="left")
    table.add_column("outcome")
    table.add_column("count", justify="right")
    table.add_column("share", justify="right")
    for outcome in Outcome:
        share = counts[outcome] / len(answers)
        table.add_row(f"[{_STYLES[outcome]}]{outcome}[/]", str(counts[outcome]), f"{share:.1%}")
    return table


def _example(answer: Answer) -> Panel:
    transaction, scored = answer.transaction, answer.scored
    place = scored.enrichment.geo
    facts = (
        f"{transaction.transaction_type} of {transaction.amount} {transaction.currency}, "
        f"{transaction.channel or 'unknown channel'}, from {place.city or place.country or 'an unknown place'}; "
        f"risk score {scored.risk_score}, fraud probability {scored.fraud_probability:.3f}"
    )
    reasons = [
        f"  {reason.contribution:+.2f}  {reason.message} ({reason.source})" for reason in scored.reasons
    ]
    title = f"[{_STYLES[scored.outcome]}]{scored.outcome}[/] {transaction.transaction_id}"
    return Panel(Group(facts, *reasons), title=title, title_align="left", highlight=False)


def tally_line(tally: Tally) -> str:
    """Return the tally as one JSON object."""
    return json.dumps(asdict(tally), separators=(",", ":"))
