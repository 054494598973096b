"""A fetch over several queues, for stores in which each queue is fetched from by a call of its own."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

from core.queue.state import FetchedJob

_log = logging.getLogger("routemq.queue.fetch")


async def fetch_queue_by_queue(
    queues: Sequence[str], limit: int, fetch: Callable[[str, int], Awaitable[list[FetchedJob]]]
) -> list[FetchedJob]:
    """Up to `limit` jobs, the first queue first. `fetch` takes a queue and how many of its jobs at most.

    What goes wrong with a later queue ends the fetch there: the jobs of those before are leased, and must reach
    their worker. Raises it only where there are none.
    """
    fetched: list[FetchedJob] = []
    for queue in queues:
        if len(fetched) >= limit:
            break
        try:
            fetched += await fetch(queue, limit - len(fetched))
        except Exception as error:
            if not fetched:
                raise
            _log.warning("this fetch ends before the queue %s: %s", queue, error)
            break
    return fetched
