"""Reads the database from threads, with the same kind of function that `DatabaseWriter` runs."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, Engine

ResultT = TypeVar("ResultT")


class DatabaseReader:
    """Runs functions of a connection off the event loop; what they change is rolled back."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def run(self, job: Callable[[Connection], ResultT]) -> ResultT:
        """Return what `job` returns."""
        return await asyncio.to_thread(self._run, job)

    def _run(self, job: Callable[[Connection], ResultT]) -> ResultT:
        with self._engine.connect() as connection:
            return job(connection)
