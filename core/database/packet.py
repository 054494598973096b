"""MySQL takes no statement longer than max_allowed_packet, and hangs up on whoever sends one.

The values of a statement are part of its text, escaped. So what is large is measured beforehand.
"""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

ALWAYS_FITS = 1024 * 1024
"""Bytes before escaping. Twice as much is below every server's default."""
_ROOM = 64 * 1024
"""Bytes for the rest of a statement."""
_ESCAPED = "\"'\\\n\r\x1a"


async def packet_room(connection: AsyncConnection) -> int:
    """Bytes of values, escaped, that one statement may carry."""
    limit: int = (await connection.exec_driver_sql("SELECT @@max_allowed_packet")).scalar_one()
    return limit - _ROOM


def escaped_size(text: str) -> int:
    """Bytes of a text inside a statement."""
    return len(text.encode()) + sum(text.count(character) for character in _ESCAPED)


def shortened(text: str, room: int) -> str:
    """The beginning and the end of a text, so that it takes `room` bytes escaped."""
    if escaped_size(text) <= room:
        return text
    kept = max(room // 8, 0)  # characters on either side; one takes four bytes at most
    return f"{text[:kept]}\n… shortened, since max_allowed_packet is too small for all of it …\n{text[-kept:]}"
