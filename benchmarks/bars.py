"""What the figures are held against."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.row import Bar, Medians, ratio
from benchmarks.rows.growth import GROWTH, IDLE_MB
from benchmarks.rows.pickup import P50, P99


def against(row: str, *peers: str) -> Callable[[Medians], float | None]:
    """Ours over the best peer, or the best of those named."""
    return lambda medians: ratio(medians.of(row), medians.best(row, *peers))


def figure(row: str, label: str = "RouteMQ", unit: str | None = None) -> Callable[[Medians], float | None]:
    return lambda medians: medians.of(row, label, unit)


def quotient(row: str, label: str, other: str) -> Callable[[Medians], float | None]:
    return lambda medians: ratio(medians.of(row, label), medians.of(row, other))


def in_first_round(row: str, label: str, other: str) -> Callable[[Medians], float | None]:
    return lambda medians: ratio(medians.first(row, label), medians.first(row, other))


def across(row: str, other: str, label: str) -> Callable[[Medians], float | None]:
    return lambda medians: ratio(medians.of(row), medians.of(other, label))


at_most = partial(Bar, above=False)
MILLION, TEN_THOUSAND = "1,000,000 jobs", "10,000 jobs"

BARS = [
    Bar("Redis, no-op jobs", "worker-redis", "≥ 10 x the best peer", "15 x", against("worker-redis"), 10),
    Bar("Redis, no-op jobs", "worker-redis", "≥ 100 x RouteMQ-PyPI", "", against("worker-redis", "RouteMQ-PyPI"), 100),
    Bar(
        "PostgreSQL, no-op jobs",
        "worker-postgresql",
        "≥ 1.5 x pgqueuer",
        "2.5 x",
        against("worker-postgresql", "pgqueuer"),
        1.5,
    ),
    Bar(
        "PostgreSQL, no-op jobs",
        "worker-postgresql",
        "≥ 20 x procrastinate",
        "",
        against("worker-postgresql", "procrastinate"),
        20,
    ),
    Bar(
        "SQLite, no-op jobs",
        "worker-sqlite",
        "≥ 8,000 a second",
        "12,000",
        figure("worker-sqlite"),
        8000,
        unit="jobs/s",
    ),
    Bar("SQLite, no-op jobs", "worker-sqlite", "≥ 5 x huey", "", against("worker-sqlite", "huey"), 5),
    Bar(
        "two processes, CPU-bound jobs",
        "processes",
        "≥ 1.7 x one process",
        "1.9 x",
        quotient("processes", "QUEUE_PROCESSES=2", "QUEUE_PROCESSES=1"),
        1.7,
    ),
    Bar("bulk on Redis", "dispatch-bulk-redis", "≥ 3 x the best peer's", "5 x", against("dispatch-bulk-redis"), 3),
    Bar(
        "bulk on SQLite", "dispatch-bulk-sqlite", "≥ 1.5 x the best peer's", "2 x", against("dispatch-bulk-sqlite"), 1.5
    ),
    Bar(
        "bulk on PostgreSQL",
        "dispatch-bulk-postgresql",
        "≥ 1.5 x awa-pg and pgqueuer",
        "COPY",
        against("dispatch-bulk-postgresql", "awa-pg", "pgqueuer"),
        1.5,
    ),
    Bar(
        "100 tasks at a time on Redis",
        "dispatch-hundred-redis",
        "≥ 5 x the best peer",
        "10 x",
        against("dispatch-hundred-redis"),
        5,
    ),
    Bar("one by one on Redis", "dispatch-one-redis", "≥ 1 x the best peer", "", against("dispatch-one-redis"), 1),
    Bar(
        "one by one on PostgreSQL",
        "dispatch-one-postgresql",
        "≥ 1 x the best peer",
        "",
        against("dispatch-one-postgresql"),
        1,
    ),
    Bar("one by one on SQLite", "dispatch-one-sqlite", "≥ 1 x the best peer", "", against("dispatch-one-sqlite"), 1),
    at_most(
        "idle pickup, Redis, p50", "pickup-redis", "≤ 3 ms", "1 ms", figure("pickup-redis", unit=P50), 3, unit="ms"
    ),
    at_most("idle pickup, Redis, p99", "pickup-redis", "≤ 15 ms", "", figure("pickup-redis", unit=P99), 15, unit="ms"),
    at_most(
        "idle pickup, PostgreSQL, p50",
        "pickup-postgresql",
        "≤ 3 ms",
        "1 ms",
        figure("pickup-postgresql", unit=P50),
        3,
        unit="ms",
    ),
    at_most(
        "idle pickup, PostgreSQL, p99",
        "pickup-postgresql",
        "≤ 15 ms",
        "",
        figure("pickup-postgresql", unit=P99),
        15,
        unit="ms",
    ),
    at_most(
        "idle pickup, SQLite, p50", "pickup-sqlite", "≤ 30 ms", "5 ms", figure("pickup-sqlite", unit=P50), 30, unit="ms"
    ),
    Bar(
        "MQTT to durable job", "mqtt-job", "≥ 10,000 a second", "20,000", figure("mqtt-job"), 10_000, unit="messages/s"
    ),
    Bar(
        "MQTT to durable job",
        "mqtt-job",
        "≥ 5 x RouteMQ-PyPI's bare handler",
        "",
        across("mqtt-job", "mqtt-handler", "RouteMQ-PyPI"),
        5,
        only="mqtt-[jh]",
    ),
    Bar(
        "MQTT to finished job",
        "mqtt-finished",
        "≥ 6,000 a second for 60 s",
        "10,000",
        figure("mqtt-finished"),
        6000,
        unit="messages/s",
    ),
    *(
        Bar(
            f"backlog of 1,000,000 against 10,000: {store}",
            f"backlog-{store}",
            "≥ 0.9 of the throughput",
            "1.0",
            in_first_round(f"backlog-{store}", MILLION, TEN_THOUSAND),
            0.9,
        )
        for store in ("redis", "postgresql", "sqlite", "mysql")
    ),
    at_most(
        "10,000 routes against 10",
        "routes",
        "≤ 1.2 x the time per message",
        "1.0",
        quotient("routes", "10 routes", "10,000 routes"),
        1.2,
    ),
    at_most(
        "worker: resident memory, idle",
        "memory-worker",
        "≤ 80 MB",
        "50 MB",
        figure("memory-worker", unit=IDLE_MB),
        80,
        unit="MB",
    ),
    at_most(
        "worker: growth over 1,000,000 jobs",
        "memory-worker",
        "≤ 5 %",
        "0",
        figure("memory-worker", unit=GROWTH),
        5,
        unit="%",
    ),
    at_most(
        "router: memory, queue unreachable",
        "memory-router",
        "≤ 150 MB",
        "flat",
        figure("memory-router"),
        150,
        unit="MB",
    ),
    at_most("`--help`", "startup-help", "≤ 0.3 s", "0.15 s", figure("startup-help"), 0.3, unit="s"),
    at_most(
        "`--queue-work` to its first job",
        "startup-worker",
        "≤ 1.0 s",
        "0.6 s",
        figure("startup-worker", "redis"),
        1.0,
        unit="s",
    ),
]
