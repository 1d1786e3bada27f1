"""What the rounds say: each target against the yardstick of the same round and the usual way. Pure."""

from collections.abc import Iterator, Mapping
from statistics import median

from bench.figures import Aim, Better, Figure, spread
from bench.rounds import Rounds
from bench.variants import FLOORS, LEAN_SERVERS, LEAN_WORKERS

# design.md section 6: (target, connections) -> what is accepted, where it should go
AGAINST_ECHO = {
    ("LEAN", 32): Aim(Better.HIGHER, 0.55, 0.75),
    ("LEAN", 128): Aim(Better.HIGHER, 0.8, 1.0),
    (LEAN_SERVERS, 32): Aim(Better.HIGHER, 0.4),
}
WORKERS_NOTE = (
    "two cores: the workers share them with PostgreSQL, Valkey, the other services and the client, so this shows that "
    "a second worker costs nothing, not what it brings"
)
FULL_AGAINST_ECHO = Aim(Better.HIGHER, 0.35, 0.5)  # asked once the default features are about 120
AGAINST_NAIVE = {
    "NAIVE_shared_client": Aim(Better.HIGHER, 60, 80),
    "NAIVE_client_per_call": Aim(Better.HIGHER, 400, 500),
}
NAIVE_CONNECTIONS = 32
WORKERS_CONNECTIONS = 32


def comparisons(rounds: Rounds, *, default_features: int, summaries: Mapping[str, str]) -> Iterator[Figure]:
    """Yield the rates of all targets, and the ratios that design.md asks for; `summaries` say what a target is."""
    pairs = list(dict.fromkeys((each.target, each.connections) for each in rounds.found))
    for target, connections in pairs:
        rates, note = rounds.rates(target, connections), summaries.get(target, "")
        yield spread(f"{target}_c{connections}", rates, "req/s", note=note)
    for target, connections in pairs:
        if target in {"LEAN", "FULL", LEAN_SERVERS, *FLOORS} and rounds.rates("echo", connections):
            yield _against_echo(rounds, target, connections, default_features=default_features)
    if rounds.rates(LEAN_WORKERS, WORKERS_CONNECTIONS):
        yield _ratio(rounds, LEAN_WORKERS, LEAN_SERVERS, WORKERS_CONNECTIONS, aim=None, note=WORKERS_NOTE)
    for naive, aim in AGAINST_NAIVE.items():
        if rounds.rates("LEAN", NAIVE_CONNECTIONS) and rounds.rates(naive, NAIVE_CONNECTIONS):
            yield _ratio(rounds, "LEAN", naive, NAIVE_CONNECTIONS, aim=aim)


def losses(rounds: Rounds) -> Iterator[Figure]:
    """Yield how many acknowledged transactions of all runs are not in the database."""
    for target in dict.fromkeys(each.target for each in rounds.found if each.saved is not None):
        runs = [each for each in rounds.found if each.target == target]
        acknowledged = sum(each.run.acknowledged for each in runs)
        lost = sum(each.lost for each in runs)
        yield Figure(f"{target}_lost", lost, "of acknowledged", acknowledged, Aim(Better.LOWER, 0))


def _against_echo(rounds: Rounds, target: str, connections: int, *, default_features: int) -> Figure:
    aim = AGAINST_ECHO.get((target, connections))
    if (target, connections) == ("FULL", 32) and default_features >= 100:
        aim = FULL_AGAINST_ECHO
    return _ratio(rounds, target, "echo", connections, aim=aim)


def _ratio(
    rounds: Rounds, target: str, baseline: str, connections: int, *, aim: Aim | None, note: str = ""
) -> Figure:
    """Compare round by round: what slowed the machine in one round slowed both."""
    rates, others = rounds.rates(target, connections), rounds.rates(baseline, connections)
    ratios = [rate / other for rate, other in zip(rates, others, strict=True)]
    name = f"{target}_c{connections}_vs_{baseline}"
    return spread(name, ratios, "x", baseline=median(others), aim=aim, note=note)
