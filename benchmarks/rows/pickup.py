"""From the call of `dispatch` in one process to the start of the job in another, an idle worker."""

from __future__ import annotations

from functools import partial
from statistics import quantiles

from benchmarks.contenders import OURS
from benchmarks.row import Entry, Figures, Row
from benchmarks.rows.workers import STORES
from benchmarks.stage import Stage, until

P50, P99 = "p50 ms", "p99 ms"


def pickup(store: str, stage: Stage) -> Figures:
    samples = stage.size(200, 50) + 1
    with stage.performance(OURS, store, samples) as place:
        place.verb("prepare")
        place.verb("one", 0, 0, 1)
        with place.running() as worker:
            place.wait_for(0, 1, worker)
            place.tally.counts[0] = 0
            begun = place.verb("pickup", samples)
            until(lambda: place.tally.done(0, samples) == samples, "the last job")
            place.check(0, samples)
        waits = [(start - call) * 1000 for start, call in zip(place.tally.started, begun, strict=True)][1:]
    cuts = quantiles(waits, n=100)
    return {P50: cuts[49], P99: cuts[98]}


ROWS = [
    Row(
        f"pickup-{store}",
        f"Idle pickup: {title}",
        (Entry("RouteMQ", OURS, partial(pickup, store), quick=store != "mysql"),),
    )
    for store, title in STORES.items()
]
