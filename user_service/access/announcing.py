"""Says to the other services that who may get in has changed, so that they look at once and not within ten seconds."""

import asyncio

from common.contracts.access import ANNOUNCEMENTS
from common.db import Database
from common.valkey.messages import Messages
from user_service.access_changes.noting import ANNOUNCE


class Announcer:
    """Publishes that there are changes after each commit that made some; the feed says what they are.

    A message that is lost costs what it cost without it: the services poll.
    """

    def __init__(self, messages: Messages) -> None:
        self._messages = messages
        self._changed = asyncio.Event()

    def follow(self, database: Database) -> None:
        """Announce what sessions of `database` commit from now on."""
        database.sessions.configure(info={ANNOUNCE: self._changed.set})

    async def keep_telling(self) -> None:
        """Publish; changes of one moment are one message. Runs until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self._messages.publish(ANNOUNCEMENTS, b"changed")
