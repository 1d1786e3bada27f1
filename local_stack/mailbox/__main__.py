"""Runs the mailbox: `python -m local_stack.mailbox --directory var/mailbox --port 8026 --smtp-port 8025`."""

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from local_stack.mailbox.pages import mailbox_app
from local_stack.mailbox.sink import receiving
from local_stack.mailbox.store import MailStore

LOOPBACK = "127.0.0.1"


def main() -> None:
    """Take mails and show them until a signal asks to stop."""
    parser = argparse.ArgumentParser(prog="python -m local_stack.mailbox", description=__doc__)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True, help="of the page")
    parser.add_argument("--smtp-port", type=int, required=True)
    options = parser.parse_args()
    store = MailStore(options.directory)

    @asynccontextmanager
    async def with_smtp(_app: Starlette) -> AsyncIterator[None]:
        async with receiving(store, host=LOOPBACK, port=options.smtp_port):
            yield

    app = mailbox_app(store)
    app.router.lifespan_context = with_smtp
    uvicorn.run(
        app,
        host=LOOPBACK,
        port=options.port,
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=3,
    )


if __name__ == "__main__":
    main()
