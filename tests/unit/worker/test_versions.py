"""Jobs of another version of their class, while workers of both versions run."""

from __future__ import annotations

from typing import Any

import pytest

from core.errors import EnvelopeError, EnvelopeVersionError, JobVersionError
from core.job import Job, job_name
from core.observability.events import JobCompleted, JobFailed, JobRetried
from core.queue.state import NewJob
from core.queue.worker import retry
from core.queue.worker.limits import Limits
from core.queue.worker.outcome import Failed, Retry
from core.queue.worker.retry import NEWER_WORKER_IN, decide_unread
from tests.unit.worker.conftest import Workshop


class Greet(Job):
    """As the newer release has it: version 1 had `who`."""

    version = 2
    name: str

    @classmethod
    def upgrade(cls, data: dict[str, Any], version: int) -> dict[str, Any]:
        return {"name": data["who"]}

    async def handle(self) -> None:
        GREETED.append(self.name)


class GreetOfOld(Job):
    max_tries = 2
    who: str

    async def handle(self) -> None:
        GREETED.append(f"old {self.who}")


GreetOfOld.__qualname__ = "Greet"
assert job_name(GreetOfOld) == job_name(Greet)
GREETED: list[str] = []


@pytest.fixture(autouse=True)
def _nobody_greeted() -> None:
    GREETED.clear()


async def test_a_job_of_the_older_version_runs_on_the_newer_worker(workshop: Workshop) -> None:
    await workshop.manager.push(GreetOfOld(who="Ada"))
    workshop.register(Greet)
    await workshop.work()
    assert GREETED == ["Ada"]


async def test_a_job_of_a_newer_version_waits_for_a_newer_worker(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "NEWER_WORKER_IN", 0.0)
    await workshop.manager.push(Greet(name="Ada"))
    workshop.register(GreetOfOld)
    await workshop.work(max_jobs=1, stop_when_empty=False)
    (event,) = workshop.of(JobRetried)
    assert isinstance(event.exception, JobVersionError)
    workshop.register(Greet)
    await workshop.work(max_jobs=1, stop_when_empty=False)
    assert (GREETED, len(workshop.of(JobCompleted))) == (["Ada"], 1)


async def test_a_job_of_a_newer_version_that_no_worker_can_read_ends_on_record_once_it_is_out_of_tries(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "NEWER_WORKER_IN", 0.0)
    await workshop.manager.push(Greet(name="Ada"))
    workshop.register(GreetOfOld)
    await workshop.work(max_jobs=2, stop_when_empty=False)  # as many tries as the class has where it is known
    assert (GREETED, len(workshop.of(JobRetried)), len(workshop.of(JobFailed))) == ([], 1, 1)
    (row,) = await workshop.driver.failures.rows()
    assert row.job == job_name(Greet)
    assert b'"name":"Ada"' in row.payload
    assert "by version 2" in row.exception and "this worker has version 1" in row.exception


async def test_data_that_upgrade_cannot_read_is_on_record_at_once(workshop: Workshop) -> None:
    job: Any = GreetOfOld(who="Ada")
    await workshop.manager.push(job)
    (fetched,) = await workshop.driver.fetch(["default"], 1, 60.0)
    await workshop.driver.complete([fetched.lease])
    await workshop.driver.push([NewJob("0190-id", "default", fetched.payload.replace(b'"who"', b'"whom"'))])
    workshop.register(Greet)
    await workshop.work()
    (row,) = await workshop.driver.failures.rows()
    assert row.attempts == 1 and "upgrade()" in row.exception and "KeyError('who')" in row.exception


# ── the decision ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_job_of_a_newer_version_is_left_alone_for_long_enough() -> None:
    error = JobVersionError("newer", None)
    assert decide_unread(error, 2, Limits(3, 0.0, 60.0)) == Retry(error, NEWER_WORKER_IN)
    assert decide_unread(error, 2, Limits(3, 3600.0, 60.0)) == Retry(error, 3600.0)
    assert decide_unread(error, 3, Limits(3, 0.0, 60.0)) == Failed(error, None)


@pytest.mark.parametrize("error", [EnvelopeError("cut off"), EnvelopeVersionError("newer")], ids=repr)
def test_what_is_no_envelope_that_we_know_is_given_up(error: EnvelopeError) -> None:
    assert decide_unread(error, 1, Limits(3, 0.0, 60.0)) == Failed(error, None)
