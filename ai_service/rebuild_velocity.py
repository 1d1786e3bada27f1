"""`python -m ai_service.rebuild_velocity`: counts the decisions of 30 days again, into Valkey.

The services may run meanwhile; while one of them is at work on an institution's state, it is waited for. For the last
few decisions of each institution nothing is known of its velocity for a moment; those are counted by the services
afterwards.
"""

import asyncio
import sys
from collections.abc import Sequence
from functools import partial

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from sqlalchemy.exc import SQLAlchemyError
from valkey.exceptions import ResponseError

from ai_service.bootstrap import MIGRATIONS
from ai_service.scoring import repository as decisions
from ai_service.scoring.rebuilding import LEASE_MS, Rebuilding, RebuildInterruptedError, leased
from ai_service.scoring.velocity_opening import shared_velocity
from ai_service.settings import AiSettings
from common.db import migrate, writing_engine
from common.errors import StartupError
from common.settings import load_settings
from common.valkey.calls import ValkeyAwayError, ValkeyCalls, open_shared
from common.writer import DatabaseWriter

PATIENCE_S = 1.5 * LEASE_MS / 1000
"""Longer than a process that ended keeps its lease."""
_COLUMNS = (
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TextColumn("decisions"),
    TimeRemainingColumn(),
)


class RebuildFailedError(Exception):
    """The state of some institutions was not rebuilt; the message says what to do."""


async def rebuild_velocity(settings: AiSettings, console: Console, *, patience_s: float = PATIENCE_S) -> int:
    """Rebuild the state of every institution and return how many decisions were counted.

    A state that another process is at work on is waited for, `patience_s` at most.

    Raises `RebuildFailedError`, and what Valkey and the database raise.
    """
    migrate(settings.database_url, migrations=MIGRATIONS)
    database = DatabaseWriter(writing_engine(settings.database_url))
    try:
        async with open_shared(settings) as calls:
            if calls is None:
                raise RebuildFailedError(
                    "VALKEY_URL is not set: the velocity state is in the process of ai_service, which rebuilds it when it "
                    "starts without VELOCITY_SNAPSHOT."
                )
            await calls.call("PING")
            return await _rebuild_all(calls, database, console, patience_s)
    finally:
        await database.close()


async def _rebuild_all(
    calls: ValkeyCalls, database: DatabaseWriter, console: Console, patience_s: float
) -> int:
    velocity = shared_velocity(calls, reader=database, writer=database)
    rebuilding = Rebuilding(calls, velocity, database)
    counted, busy = 0, []
    with Progress(*_COLUMNS, console=console) as bar:
        for institution_id, last in (await database.run(decisions.last_sequences)).items():
            task = bar.add_task(institution_id, total=last)
            async with leased(calls, velocity, institution_id, patience_s=patience_s) as lease:
                if lease is None:
                    busy.append(institution_id)
                    continue
                counted += await rebuilding.run(institution_id, lease, progress=partial(bar.advance, task))
            bar.update(task, completed=last)
    if busy:
        raise RebuildFailedError(
            f"Another process is at work on: {', '.join(busy)}. Try again when it is done."
        )
    return counted


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    console = Console(stderr=True)
    try:
        settings = load_settings(AiSettings, flags=list(sys.argv[1:] if arguments is None else arguments))
        counted = asyncio.run(rebuild_velocity(settings, console))
    except (RebuildFailedError, StartupError) as error:
        console.print(f"[red]{error}[/red]")
    except RebuildInterruptedError:
        console.print(
            "[red]Another process took the rebuild over, or too many transactions came at its end. Try again.[/red]"
        )
    except ValkeyAwayError:
        console.print("[red]Valkey (VALKEY_URL) does not answer within VALKEY_TIMEOUT_MS.[/red]")
    except ResponseError as error:
        console.print(f"[red]Valkey refuses: {str(error).split(' ', 1)[0]}[/red]")
    except SQLAlchemyError as error:
        console.print(f"[red]The database (DATABASE_URL) fails: {type(error).__name__}[/red]")
    else:
        console.print(f"Velocity counts {counted} decisions again.")
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
