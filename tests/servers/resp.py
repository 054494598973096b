"""What clients of Redis send, for servers that answer as a test tells them."""

from __future__ import annotations

import asyncio


async def read_command(reader: asyncio.StreamReader) -> list[bytes]:
    """The words of the next command; none at the end."""
    line = await reader.readline()
    words = []
    for _ in range(int(line[1:] or 0)):
        length = int((await reader.readline())[1:])
        words.append((await reader.readexactly(length + 2))[:-2])
    return words
