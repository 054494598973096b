"""Who is measured: RouteMQ and its peers, each set up as its own guide says for throughput."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.environments import HERE, pinned

NEVER = "$^"


@dataclass(frozen=True)
class Contender:
    name: str
    folder: str
    setup: str
    stores: tuple[str, ...]
    at_least_once: bool = True
    jobs: int = 10_000
    """How many a worker row loads in a full run: for some seconds of work, and 500 at least."""
    worker_rounds: int | None = None
    """Rounds of a worker row at most, of one that is slow, and that no bar is about."""
    ways: frozenset[str] = frozenset({"one"})
    """What its dispatch can do: one by one, a hundred tasks at a time, bulk."""
    quick: str = ""
    """A regular expression: the rows of `--quick` that it takes part in, for which all have no time."""

    @property
    def is_ours(self) -> bool:
        return self.folder == "ours"

    @property
    def version(self) -> str:
        return "this tree" if self.is_ours else pinned(self.folder)

    @property
    def path(self) -> str:
        return str(HERE / "ours" if self.is_ours else HERE / "peers" / self.folder)


def _ways(*names: str) -> frozenset[str]:
    return frozenset({"one", *names})


OURS = Contender(
    "RouteMQ",
    "ours",
    "`python main.py --queue-work --concurrency 200`",
    ("redis", "postgresql", "sqlite", "mysql"),
    jobs=50_000,
    ways=_ways("hundred", "bulk"),
)

PEERS = (
    Contender("dramatiq", "dramatiq", "1 process, 8 threads (its defaults)", ("redis",), quick="worker|one"),
    Contender(
        "taskiq",
        "taskiq",
        "1 process, 100 at a time, uvloop, acknowledged when saved",
        ("redis",),
        ways=_ways("hundred"),
        quick="worker|hundred",
    ),
    Contender("arq", "arq", "100 at a time, uvloop, no results kept", ("redis",), ways=_ways("hundred"), quick=NEVER),
    Contender(
        "saq", "saq", "100 at a time, 2 tries, no sweep meanwhile", ("redis",), quick=NEVER, ways=_ways("hundred")
    ),
    Contender(
        "celery",
        "celery",
        "prefork, 2 processes, acks late",
        ("redis",),
        jobs=2_000,
        worker_rounds=1,
        quick=NEVER,
    ),
    Contender(
        "streaq",
        "streaq",
        "100 at a time, uvloop",
        ("redis",),
        jobs=2_000,
        worker_rounds=1,
        ways=_ways("hundred", "bulk"),
        quick="hundred|bulk",
    ),
    Contender(
        "rq",
        "rq",
        "SimpleWorker (no fork per job); a dead worker's jobs fail, and are not run again",
        ("redis",),
        at_least_once=False,
        jobs=1_000,
        worker_rounds=1,
        ways=_ways("bulk"),
        quick=NEVER,
    ),
    Contender(
        "RouteMQ-PyPI",
        "routemq",
        "one job at a time (it has no concurrency); a kill between its two Redis commands loses a job",
        ("redis",),
        False,
        jobs=1_000,
        ways=_ways("hundred"),
    ),
    Contender(
        "pgqueuer",
        "pgqueuer",
        "batches of 200, asyncpg, uvloop",
        ("postgresql",),
        ways=_ways("hundred", "bulk"),
        jobs=20_000,
    ),
    Contender("awa-pg", "awa", "200 workers", ("postgresql",), jobs=5_000, ways=_ways("hundred", "bulk")),
    Contender(
        "oban",
        "oban",
        "200 at a time",
        ("postgresql",),
        jobs=5_000,
        worker_rounds=1,
        ways=_ways("hundred", "bulk"),
        quick=NEVER,
    ),
    Contender(
        "procrastinate",
        "procrastinate",
        "100 at a time; stalled jobs are run again by a periodic task of the user's",
        ("postgresql",),
        jobs=2_000,
        ways=_ways("hundred", "bulk"),
    ),
    Contender(
        "huey",
        "huey",
        "8 threads; a job leaves the queue before it runs",
        ("sqlite",),
        at_least_once=False,
        jobs=5_000,
    ),
    Contender(
        "taskito",
        "taskito",
        "8 threads, batches of 100",
        ("redis", "postgresql", "sqlite"),
        jobs=500,
        worker_rounds=1,
        ways=_ways("bulk"),
        quick="one|bulk|sqlite",
    ),
)

RECEIVERS = (
    Contender("RouteMQ-PyPI", "routemq", "its router; PUBACK before the handler", ("mqtt",), False, 10_000),
    Contender("FastStream", "faststream", "PUBACK after the handler (its default)", ("mqtt",), True, 5_000),
    Contender("aiomqtt", "aiomqtt", "`async for message in client.messages`; PUBACK before", ("mqtt",), False, 20_000),
    Contender("gmqtt", "gmqtt", "PUBACK after the handler (optimistic_acknowledgement=False)", ("mqtt",), True, 50_000),
)
