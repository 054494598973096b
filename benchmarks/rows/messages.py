"""MQTT QoS 1, messages of 100 bytes from another process: to a handler, to a durable job, to a finished job."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from urllib.parse import urlsplit

from benchmarks.contenders import OURS, RECEIVERS, Contender
from benchmarks.environments import ROOT
from benchmarks.publisher import Publisher
from benchmarks.row import Entry, Figures, Row
from benchmarks.stage import Failed, Performance, Stage, largest_resident, until

RATE = "messages/s"
ROUTER = replace(OURS, setup="`python main.py`: its router", stores=("mqtt",), jobs=50_000)
PROBE_PAUSE = 0.1  # seconds


def _broker(address: str) -> tuple[str, int]:
    url = urlsplit(address)
    return str(url.hostname), url.port or 1883


def publish(address: str, *arguments: object) -> str:
    """In a process of its own; what it printed."""
    command = [sys.executable, "-m", "benchmarks.publisher", *map(str, _broker(address)), *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=600).stdout


def probe(place: Performance, address: str, number: int, process: subprocess.Popen[bytes]) -> None:
    """Publish message `number` until it has arrived: from then on, the subscription is there."""
    publisher = Publisher(*_broker(address))

    def arrived() -> bool:
        if process.poll() is not None:
            raise Failed(f"it ended by itself with code {process.returncode}")
        publisher.publish(range(number, number + 1))
        time.sleep(PROBE_PAUSE)
        return place.tally.done(number, number + 1) == 1

    until(arrived, "the first message")


@contextmanager
def our_router(place: Performance, broker: str, controller: str, routes: int = 1) -> Iterator[subprocess.Popen[bytes]]:
    host, port = _broker(broker)
    settings = {"MQTT_BROKER": host, "MQTT_PORT": str(port)}
    app = {"BENCH_CONTROLLER": controller, "BENCH_ROUTES": str(routes)}
    with place.running(str(place.python), "main.py", **settings, **app) as process:
        yield process


def to_handler(contender: Contender, stage: Stage) -> Figures:
    messages = stage.size(contender.jobs, contender.jobs // 10)
    if contender is ROUTER:
        return routed(stage, messages, 1)
    with stage.performance(contender, "mqtt", messages + 1) as place, place.running() as process:
        probe(place, place.address, messages, process)
        publish(place.address, 0, messages)
        place.wait_for(0, messages, process, 120)
        place.check(0, messages, left=None)
        return {RATE: messages / place.tally.seconds(0, messages)}


def routed(stage: Stage, messages: int, routes: int) -> Figures:
    """Our router, handing messages over `routes` routes to controllers that do nothing."""
    with (
        stage.performance(OURS, "sqlite", messages + 1) as place,
        stage.servers.store("mqtt", place.directory) as broker,
    ):
        place.verb("prepare")
        with our_router(place, broker, "bare", routes) as process:
            probe(place, broker, messages, process)
            publish(broker, 0, messages, "--routes", routes)
            place.wait_for(0, messages, process)
            place.check(0, messages, left=None)
            return {RATE: messages / place.tally.seconds(0, messages)}


def over_routes(count: int, stage: Stage) -> Figures:
    return routed(stage, stage.size(50_000, 5000), count)


def to_durable_job(stage: Stage) -> Figures:
    """The tally is written by the controller once its `await dispatch(...)` has returned."""
    messages = stage.size(100_000, 10_000)
    with (
        stage.performance(OURS, "redis", messages + 1) as place,
        stage.servers.store("mqtt", place.directory) as broker,
    ):
        place.verb("prepare")
        with our_router(place, broker, "durable") as process:
            probe(place, broker, messages, process)
            publish(broker, 0, messages)
            place.wait_for(0, messages, process)
            probes = place.tally.counts[messages]
            place.check(0, messages, left=messages + probes)
            return {RATE: messages / place.tally.seconds(0, messages)}


def to_finished_job(stage: Stage) -> Figures:
    """Sustained: what the jobs of router and worker have done when the time is over, none left behind."""
    seconds = stage.size(60, 5)
    capacity = seconds * 40_000
    with (
        stage.performance(OURS, "redis", capacity) as place,
        stage.servers.store("mqtt", place.directory) as broker,
    ):
        place.verb("prepare")
        with our_router(place, broker, "forward") as router, place.running():
            probe(place, broker, capacity - 1, router)
            options = ("--seconds", seconds, "--tally", place.directory / "tally")
            published = int(publish(broker, 0, 0, *options))
            place.wait_for(0, published, router)
            place.check(0, published)
            return {RATE: published / place.tally.seconds(0, published)}


def unreachable_queue(stage: Stage) -> Figures:
    """The router's largest resident memory while messages arrive and Redis is down; afterwards, all become jobs."""
    messages = stage.size(1_000_000, 20_000)
    with (
        stage.performance(OURS, "redis", messages + 1) as place,
        stage.servers.store("mqtt", place.directory) as broker,
    ):
        place.verb("prepare")
        with our_router(place, broker, "durable") as router:
            probe(place, broker, messages, router)
            stage.servers.redis.kill()
            publish(broker, 0, messages)
            time.sleep(stage.size(10, 2))
            largest = largest_resident(router.pid)
            stage.servers.redis.start()
            place.wait_for(0, messages, router, stage.size(400, 60))
    return {"MB": largest}


ROWS = [
    Row(
        "mqtt-handler",
        "MQTT QoS 1 to a handler that does nothing, one process",
        tuple(Entry(each.name, each, partial(to_handler, each)) for each in (ROUTER, *RECEIVERS)),
    ),
    Row(
        "mqtt-job",
        "MQTT QoS 1 to durable job on Redis, one router process",
        (Entry("RouteMQ", ROUTER, to_durable_job),),
    ),
    Row(
        "mqtt-finished",
        "MQTT QoS 1 to finished job on Redis, one router and one worker, sustained for 60 s",
        (Entry("RouteMQ", ROUTER, to_finished_job, rounds=1),),
    ),
    Row(
        "memory-router",
        "Router: resident memory while 1,000,000 messages arrive and the queue is unreachable",
        (Entry("RouteMQ", ROUTER, unreachable_queue, rounds=1),),
    ),
    Row(
        "routes",
        "Messages through a router with many routes",
        tuple(
            Entry(
                f"{count:,} routes",
                ROUTER,
                partial(over_routes, count),
                quick=count <= 1000,
            )
            for count in (10, 1000, 10_000)
        ),
    ),
]
