"""Compares what clients heard with what is there, and names every promise that was not kept.

    python -m tests.faults.check_history --history history.jsonl --database sqlite:///var/ai_service.db \\
        --s3 http://127.0.0.1:8010 --bucket assay-archive --mailbox var/mailbox

Ends with 0 when everything holds, and with 1 and one line for each breach otherwise.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.faults.evidence import Scope, collect
from tests.faults.history import Attempt, read_history
from tests.faults.identity import identity_breaches
from tests.faults.invariants import REFUSED_WITHIN_S, Breach, Case, breaches
from tests.faults.invariants_of_answers import answer_breaches
from tests.faults.invariants_of_records import record_breaches
from tests.faults.replay import replayed_differently
from tests.faults.resources import Held
from tests.faults.sources import Sources


def check_history(
    history: Sequence[Attempt],
    sources: Sources,
    *,
    scope: Scope | None = None,
    models_dir: Path | None = None,
    most_copies: int = 1,
    may_be_refused: bool = False,
    refused_within_s: float = REFUSED_WITHIN_S,
    held: Sequence[Held] = (),
    registered: Sequence[str] = (),
    asked: Sequence[str] = (),
) -> list[Breach]:
    """Return every breach. Everything must have come to rest: what still waits is a breach too."""
    found = collect(sources, scope or Scope())
    case = Case(
        history,
        found,
        most_copies=most_copies,
        may_be_refused=may_be_refused,
        refused_within_s=refused_within_s,
        held=held,
        registered=registered,
        asked=asked,
    )
    replayed = list(replayed_differently(found.decisions, models_dir)) if models_dir else []
    return all_breaches(case) + replayed


def all_breaches(case: Case) -> list[Breach]:
    """Return what does not hold of everything that was found."""
    return breaches(case) + record_breaches(case) + answer_breaches(case) + identity_breaches(case)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check what the command line names, print what was found, and return the exit status."""
    options = _options().parse_args(arguments)
    history = [attempt for path in options.history for attempt in read_history(path)]
    sources = Sources(
        database_url=options.database,
        s3_endpoint_url=options.s3,
        s3_bucket=options.bucket,
        mailbox=options.mailbox,
        alert_database_url=options.alert_database,
        log_database_url=options.log_database,
        user_database_url=options.user_database,
    )
    found = check_history(
        history,
        sources,
        scope=Scope(options.institution, options.email),
        models_dir=options.models_dir,
        most_copies=options.most_copies,
        may_be_refused=options.may_be_refused,
        refused_within_s=options.refused_within,
    )
    acknowledged = sum(1 for attempt in history if attempt.decision_id is not None)
    lines = [*map(str, found), f"{len(history)} requests, {acknowledged} decisions, {len(found)} breaches"]
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if found else 0


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.check_history", description=__doc__)
    parser.add_argument("--history", type=Path, action="append", required=True, help="may be given again")
    parser.add_argument("--database", required=True, help="of ai_service: sqlite:///FILE or postgresql://...")
    parser.add_argument("--s3", default="", help="address of the S3 server; without it nothing is read there")
    parser.add_argument("--bucket", default="assay-archive")
    parser.add_argument("--mailbox", type=Path, help="folder of the mails")
    parser.add_argument("--alert-database", default="", help="of alert_service")
    parser.add_argument("--log-database", default="", help="of log_service")
    parser.add_argument("--user-database", default="", help="of user_service")
    parser.add_argument("--models-dir", type=Path, help="score again with the model in use there")
    parser.add_argument("--institution", default="", help="look at this institution alone")
    parser.add_argument("--email", default="", help="look at mails to this address alone")
    parser.add_argument("--most-copies", type=int, default=1, help="of one alert for one address")
    parser.add_argument(
        "--may-be-refused", action="store_true", help="mails the server refused for good are no breach"
    )
    parser.add_argument(
        "--refused-within", type=float, default=REFUSED_WITHIN_S, help="seconds within which a 503 comes"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
