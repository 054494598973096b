"""Whatever lies in a store instead of a job: a worker runs it, or gives it up with a record that holds all of it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from random import Random
from typing import Any
from uuid import UUID

from core.clock import CENTURY
from core.database.columns import payload_to_text, storable, text_to_payload
from core.errors import EnvelopeError
from core.handle_message import HandleMessage
from core.job import Job
from core.mqtt.message import MessageProperties
from core.observability.events import Events
from core.queue.driver import Driver
from core.queue.drivers.memory import MemoryDriver
from core.queue.drivers.unwritten_failures import record_of
from core.queue.envelope import job_of, load_job, ordering_key_of, read_envelope, write_envelope
from core.queue.job_id import new_job_id
from core.queue.registry import JobRegistry
from core.queue.state import FailedJob, Failure, NewJob
from core.queue.worker.executor import Executor
from core.queue.worker.limits import LimitRules, Limits
from core.queue.worker.options import WorkerOptions
from core.queue.worker.process_pool import ProcessPool
from core.queue.worker.process_wire import Setup
from core.queue.worker.queue_order import QueueOrder
from core.queue.worker.worker import Worker
from tests.fuzz.mutations import Mutator

QUEUE = "default"
_BATCH = 100
"""Payloads that one worker is given."""
RAN: set[str] = set()
"""Ids of the jobs that ran."""


class Colour(Enum):
    RED = "red"


@dataclass
class Place:
    name: str
    at: datetime | None = None
    tags: set[str] = field(default_factory=set)
    next: Place | None = None


class _Noting(Job):
    async def handle(self) -> None:
        RAN.add(self.job_id)


class Declared(_Noting):
    text: str
    number: int = 0
    ratio: float | None = None
    blob: bytes = b""
    moment: datetime | None = None
    key: UUID | None = None
    amount: Decimal = Decimal(0)
    colour: Colour = Colour.RED
    place: Place | None = None
    table: dict[str, list[int]] = {}  # noqa: RUF012 - a default of a declared field
    anything: Any = None


class Plain(_Noting):
    def __init__(self) -> None:
        super().__init__()
        self.value: Any = None


class Renewed(Declared):
    """One whose older payloads are made to fit."""

    version = 3

    @classmethod
    def upgrade(cls, data: dict[str, Any], version: int) -> dict[str, Any]:
        return {**data, "number": data["number"] + version}


CLASSES: list[type[Job]] = [Declared, Plain, Renewed, HandleMessage]
_AT = datetime(2026, 1, 1, tzinfo=UTC)


def seeds() -> list[bytes]:
    place = Place("a", _AT, {"b"}, Place("c"))
    whole = Declared(
        text="é", number=2**70, ratio=0.5, blob=b"\xff", moment=_AT, key=UUID(int=7), amount=Decimal("1.10"),
        place=place, table={"a": [1, 2]}, anything={"a": {1, b"x"}},
    )  # fmt: skip
    plain, patient = Plain(), Declared(text="a")
    plain.value = [(1, {2}), {3: b"x"}, _AT, date(2026, 1, 1), timedelta(1), UUID(int=1), Decimal("NaN"), math.inf]
    patient.max_tries, patient.timeout, patient.retry_after = 3, 20, 0.5
    message = HandleMessage(topic="a/b", payload=b"\xff", properties=MessageProperties(user_properties=(("k", "v"),)))
    jobs: list[Job] = [whole, plain, patient, Renewed(text="a"), message]
    written = [write_envelope(job, "0190-id", QUEUE, _AT, ordering_key="k") for job in jobs]
    return [*written, *(write_envelope(job, "0190-id", QUEUE, _AT) for job in jobs)]


def fuzz(random: Random, count: int) -> Iterator[bytes]:
    """Try that many payloads; each is told before it is tried, and once more with those that share its worker."""
    mutator, known = Mutator(random), seeds()
    with asyncio.Runner() as runner:
        for start in range(0, count, _BATCH):
            payloads = []
            for _ in range(min(_BATCH, count - start)):
                seed = random.choice(known)
                payload = mutator.mutate(seed) if random.random() < 0.3 else mutator.mutate_json(seed)
                yield payload
                check_reading(payload)
                payloads.append(payload)
            runner.run(check_working(payloads))


def check_reading(payload: bytes) -> None:
    """What does not run in a worker, or would not show there."""
    assert text_to_payload(payload_to_text(payload)) == payload
    storable(job_of(payload)).encode()
    (ordering_key_of(payload) or "").encode()
    try:
        envelope = read_envelope(payload)
        job = load_job(envelope, JobRegistry(CLASSES))
    except EnvelopeError:
        return
    limits = LimitRules(Limits(3, 1.0, 1.0)).of(job)
    assert limits.max_tries >= 1
    assert all(0 <= each <= CENTURY for each in (limits.retry_after, limits.timeout, limits.soft_timeout))


async def check_working(payloads: list[bytes]) -> None:
    """Each has run, or is stored still, to be tried again, or ended as a record that is whole."""
    driver = MemoryDriver()
    new = [NewJob(new_job_id(), QUEUE, payload) for payload in payloads]
    RAN.clear()
    await driver.push(new)
    await _worker(driver).run()
    failed = {row.job_id: row for row in await driver.failures.rows()}
    waiting = (await driver.stats(QUEUE)).retryable
    assert await driver.size(QUEUE) == waiting
    assert sum(job.job_id in RAN or job.job_id in failed for job in new) + waiting == len(new)
    for job in new:
        if job.job_id in failed:
            check_record(failed[job.job_id], job)


def check_record(row: FailedJob, job: NewJob) -> None:
    assert (row.payload, row.queue, row.attempts) == (job.payload, QUEUE, 1)
    assert row.job == job_of(job.payload)
    assert row.exception.encode()
    record_of(Failure(row.job_id, row.queue, row.job, row.payload, row.exception, row.attempts))


def _worker(driver: Driver) -> Worker:
    events = Events()
    rules = LimitRules(Limits(1, 0.0, 0.0))
    executor = Executor(JobRegistry(CLASSES), rules, processes=ProcessPool(1, 1, lambda: Setup(b"")), events=events)
    return Worker(driver, executor, WorkerOptions(QueueOrder.parse(QUEUE), sleep=0.0, stop_when_empty=True), events)
