"""Guesses passwords of many accounts from many addresses, at a steady pace: `python -m bench.guessing HOST PORT`.

A process of its own, with bare sockets and the lowest priority: those who guess use processors of their own, and what is
measured is what their guesses cost the product. It goes on until its standard input ends, then prints its answers as JSON.
"""

import asyncio
import json
import os
import secrets
import sys
from collections import Counter

A_SECOND = 50
SOURCES = 250  # loopback addresses
TIMEOUT_S = 10.0
LOWEST_PRIORITY = 19


async def _guess(host: str, port: int, source: str, answers: Counter[str]) -> None:
    body = json.dumps({"email": f"{secrets.token_hex(6)}@guess.example", "password": "not-the-password-1"})
    head = (
        f"POST /v1/auth/login HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host, port, local_addr=(source, 0))
            writer.write((head + body).encode())
            status = (await reader.readline()).split()[1].decode()
            await reader.read()
            writer.close()
    except (OSError, IndexError, TimeoutError) as error:
        status = type(error).__name__
    answers[status] += 1


async def _guess_until_told(host: str, port: int) -> Counter[str]:
    answers: Counter[str] = Counter()
    told = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    running: set[asyncio.Task[None]] = set()
    number, loop = 0, asyncio.get_running_loop()
    began = loop.time()
    while not told.done():
        task = asyncio.create_task(_guess(host, port, f"127.0.1.{number % SOURCES + 1}", answers))
        running.add(task)
        task.add_done_callback(running.discard)
        number += 1
        await asyncio.sleep(max(0.0, began + number / A_SECOND - loop.time()))
    await asyncio.gather(*running)
    return answers


if __name__ == "__main__":
    os.nice(LOWEST_PRIORITY)
    print(json.dumps(dict(asyncio.run(_guess_until_told(sys.argv[1], int(sys.argv[2]))))))
