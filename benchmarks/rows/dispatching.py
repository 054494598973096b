"""Jobs stored a second: one after the other, a hundred tasks at a time, and in bulk."""

from __future__ import annotations

from functools import partial

from benchmarks.contenders import OURS, PEERS, Contender
from benchmarks.row import Entry, Figures, Row
from benchmarks.rows.workers import STORES, takes_part
from benchmarks.stage import Stage

RATE = "dispatches/s"
WAYS = {"one": "one by one", "hundred": "100 tasks at a time", "bulk": "in bulk"}
JOBS = {"one": (3000, 500), "hundred": (10_000, 2000), "bulk": (50_000, 10_000)}
WARM = 100
SLOW = {"RouteMQ-PyPI", "celery", "procrastinate", "oban", "rq"}
"""Their bulk is far from the others'."""


def dispatch(contender: Contender, store: str, way: str, stage: Stage) -> Figures:
    jobs = stage.size(*JOBS[way]) // (5 if contender.name in SLOW and way == "bulk" else 1)
    with stage.performance(contender, store, 1) as place:
        place.verb("prepare")
        seconds = place.verb(way, 0, WARM, WARM + jobs)["seconds"]
        place.check(0, 0, left=WARM + jobs)
    return {RATE: jobs / seconds}


def _entries(store: str, way: str) -> tuple[Entry, ...]:
    return tuple(
        Entry(
            each.name,
            each,
            partial(dispatch, each, store, way),
            quick=takes_part(each, f"dispatch-{way}-{store}") and (way == "bulk" or store == "redis"),
        )
        for each in (OURS, *PEERS)
        if store in each.stores and way in each.ways
    )


ROWS = [
    Row(f"dispatch-{way}-{store}", f"Dispatching {words}: {title}", _entries(store, way))
    for store, title in STORES.items()
    for way, words in WAYS.items()
]
