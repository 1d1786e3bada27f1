"""How connections of the library are made, looked at and ended; the latter two without waiting."""

from valkey.asyncio.connection import Connection


async def make(connection: Connection) -> None:
    """Connect and log in; raises `ValkeyError`, `OSError`."""
    await connection.connect()  # type: ignore[no-untyped-call]  # the library leaves it so


def is_alive(connection: Connection) -> bool:
    """Say whether a connection that waits was not ended by the other side."""
    reader = connection._reader  # the library asks the socket, which costs a turn of the loop
    return reader is not None and not reader.at_eof() and reader.exception() is None


def drop(connection: Connection) -> None:
    """End a connection at once: what still arrives on it belongs to nobody."""
    writer = connection._writer  # the library would wait until it is closed
    if writer is not None:
        connection._reader = connection._writer = None
        writer.transport.abort()
