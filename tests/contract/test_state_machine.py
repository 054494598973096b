"""Any sequence of verbs, by two processes, one after the other and at once, while time passes: after each of them the
store is where the model is, and in the end every job comes out that the model still holds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from copy import deepcopy
from itertools import count
from typing import Any, TypeAlias, TypeVar

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from core.queue.driver import Driver
from core.queue.drivers.statements.floors import LONGEST, Floors
from core.queue.envelope import ordering_key_of
from core.queue.job_id import new_job_id
from core.queue.state import FailedJob, FetchedJob, Lease, NewJob, Retry
from tests.contract.conftest import Place
from tests.contract.jobs import failure, ids, leases, states
from tests.contract.model import QueueModel
from tests.examples import examples

T = TypeVar("T")

HOUR = 3600
"""The unit of time here, in seconds: what really passes meanwhile, on however busy a machine, is nothing beside it."""
SHORT, LONG = HOUR // 2, 3 * HOUR // 2
"""A lease or window that is over after an hour, and one that is not."""
HAS_KEYS = True
"""Whether jobs have ordering keys and unique keys."""
NOBODY = -1
"""Instead of a process."""
ALL = 1000

_numbers = count(1)

PROCESS = st.integers(0, 1)
QUEUE = st.integers(0, 1)
DELAY = st.sampled_from([0, 0, HOUR, 2 * HOUR])
KEY = st.sampled_from([None, None, "a", "b"]) if HAS_KEYS else st.none()
SPAN = st.sampled_from([SHORT, LONG])
New: TypeAlias = tuple[int, int, str | None, str | None, int]
NEW = st.tuples(QUEUE, DELAY, KEY, KEY, SPAN)
VERB = st.sampled_from(["complete", "retry", "fail", "release", "renew"])


class Store(RuleBasedStateMachine):
    """`place` and `run` come from the test."""

    place: Place
    run: Callable[[Awaitable[Any]], Any]

    def __init__(self) -> None:
        super().__init__()
        number = next(_numbers)
        self.queues = [f"a{number}", f"b{number}"]
        self.pushed: list[NewJob] = []
        self.leases: list[Lease] = []
        self.model = QueueModel()
        self.drivers = [self._open(), self._open()]

    def _open(self) -> Driver:
        driver = self.place.open()
        statements: Any = getattr(driver, "_statements", None)
        if hasattr(statements, "_floors"):  # what a process remembers of a queue is to live by the same time
            statements._floors = Floors(lambda: self.model.now)
            self.model.looks_back = LONGEST
        return driver

    def as_process(self, process: int) -> Driver:
        self.model.process = process
        return self.drivers[process]

    # ── into the store ───────────────────────────────────────────────────────────────────────────────

    @initialize(jobs=st.lists(NEW, min_size=4, max_size=8))
    def begin(self, jobs: list[New]) -> None:
        """Most of what follows needs jobs, and does more where there are some of a key."""
        self._push(0, [self._new(*each) for each in jobs])

    @rule(process=PROCESS, jobs=st.lists(NEW, min_size=1, max_size=5))
    def push(self, process: int, jobs: list[New]) -> None:
        self._push(process, [self._new(*each) for each in jobs])

    @rule(process=PROCESS, data=st.data())
    def push_again(self, process: int, data: st.DataObject) -> None:
        """As after an error whose outcome is unknown. A failed job has a row that a second of its kind would meet."""
        known = [job for job in self.pushed if job.job_id not in self.model.failed]
        if known:
            self._push(process, data.draw(st.lists(st.sampled_from(known), min_size=2, max_size=5)))

    def _new(self, queue: int, delay: int, ordering_key: str | None, unique_key: str | None, span: int) -> NewJob:
        payload = msgspec.json.encode({"number": len(self.pushed), "ordering_key": ordering_key})
        unique_for = span if unique_key else 0
        job = NewJob(new_job_id(), self.queues[queue], payload, delay, ordering_key, unique_key, unique_for)
        self.pushed.append(job)
        return job

    def _push(self, process: int, jobs: list[NewJob]) -> None:
        assert self.run(self.as_process(process).push(jobs)) == self.model.push(jobs)

    # ── a worker's verbs ─────────────────────────────────────────────────────────────────────────────

    @rule(process=PROCESS, first=QUEUE, names=st.integers(1, 2), limit=st.integers(0, 4), lease=SPAN)
    def fetch(self, process: int, first: int, names: int, limit: int, lease: int) -> None:
        queues = [self.queues[first], self.queues[1 - first]][:names]
        fetched = self.run(self.as_process(process).fetch(queues, limit, lease))
        self.model.fetch(fetched, queues, limit, lease)
        self.leases += leases(fetched)

    @rule(fetchers=st.lists(st.tuples(PROCESS, QUEUE, st.integers(1, 3)), min_size=2, max_size=5))
    def fetch_at_once(self, fetchers: list[tuple[int, int, int]]) -> None:
        """Each job goes to one of them. What they leave over, the next one gets."""
        calls = [self.drivers[process].fetch([self.queues[queue]], limit, LONG) for process, queue, limit in fetchers]
        fetched = [job for part in self.run(_at_once(*calls)) for job in part]
        self.model.process = NOBODY
        for queue in self.queues:
            self.model.fetched(self._in_line([job for job in fetched if job.queue == queue]), LONG)
        self.leases += leases(fetched)

    def _in_line(self, fetched: list[FetchedJob]) -> list[FetchedJob]:
        """In the order of the line: which of those who fetch at once was first, nobody can tell."""
        places = {job.job_id: (job.put_back is None, job.place) for job in self.model.jobs.values()}
        return sorted(fetched, key=lambda job: places[job.job_id])

    @precondition(lambda self: self.leases)
    @rule(process=PROCESS, verb=VERB, delay=DELAY, times=st.integers(1, 2), data=st.data())
    def report(self, process: int, verb: str, delay: int, times: int, data: st.DataObject) -> None:
        """By whoever ever held a lease, current or not; now and then, a second time."""
        held = data.draw(st.lists(st.sampled_from(self.leases), min_size=1, max_size=4, unique=True))
        arguments = self._arguments(verb, held, delay)
        for _ in range(times):
            answer = self.run(getattr(self.as_process(process), verb)(*arguments))
            assert answer == getattr(self.model, verb)(*arguments)
            self._stage(process)

    def _arguments(self, verb: str, held: Sequence[Lease], delay: int) -> tuple[Any, ...]:
        match verb:
            case "retry":
                return ([Retry(lease, delay) for lease in held],)
            case "fail":
                payloads = {job.job_id: job.payload for job in self.pushed}
                return ([(lease, failure(lease, payload=payloads[lease.job_id])) for lease in held],)
            case "renew":
                return held, LONG
            case _:
                return (held,)

    @precondition(lambda self: self.leases)
    @rule(one=VERB, another=VERB | st.sampled_from(["rescue", "fetch"]), data=st.data())
    def report_at_once(self, one: str, another: str, data: st.DataObject) -> None:
        """Whatever comes of it could have come of the two one after the other."""
        lease = data.draw(st.sampled_from(self.leases[-6:]))
        calls = [(verb, self._arguments_of(verb, lease), process) for process, verb in enumerate((one, another))]
        answers = self.run(_at_once(*(getattr(self.drivers[by], verb)(*arguments) for verb, arguments, by in calls)))
        told = list(zip(calls, answers, strict=True))
        explained = [model for model in (self._after(told), self._after(told[::-1])) if model is not None]
        assert explained, f"{told} at once, which no order explains"
        self.model = explained[0]
        self.leases += [job.lease for (verb, *_), answer in told if verb == "fetch" for job in answer]
        self._stage(0)

    def _arguments_of(self, verb: str, lease: Lease) -> tuple[Any, ...]:
        match verb:
            case "fetch":
                return [lease.queue], 1, LONG
            case "rescue":
                return ([lease.queue],)
            case _:
                return self._arguments(verb, [lease], HOUR)

    def _after(self, told: list[tuple[tuple[str, tuple[Any, ...], int], Any]]) -> QueueModel | None:
        """The model after these calls, one after the other; None where one of them would have had another answer."""
        model = deepcopy(self.model)
        for (verb, arguments, model.process), answer in told:
            if verb != "fetch" and getattr(model, verb)(*arguments) != answer:
                return None
            if verb == "fetch" and not model.may_fetch(answer, *arguments):
                return None
        return model

    @rule(process=PROCESS, limit=st.integers(1, 4))
    def work(self, process: int, limit: int) -> None:
        """What workers mostly do."""
        self._work(process, limit)

    def _work(self, process: int, limit: int) -> None:
        fetched = self.run(self.as_process(process).fetch(self.queues, limit, LONG))
        self.model.fetch(fetched, self.queues, limit, LONG)
        done = leases(fetched)
        self.leases += done
        assert self.run(self.drivers[process].complete(done)) == self.model.complete(done) == set()
        self._stage(process)

    @rule(process=PROCESS, some=st.integers(1, 3))
    def keep_alive(self, process: int, some: int) -> None:
        """Workers renew what they hold, but for some that hang; an hour later, those are rescued."""
        held = [lease for lease in self.leases if self.model.is_current(lease)]
        kept = held[::some]
        assert self.run(self.as_process(process).renew(kept, LONG)) == self.model.renew(kept, LONG) == set()
        self.let_pass(process, 1)
        self.rescue(process, 1)

    # ── maintenance and operating ────────────────────────────────────────────────────────────────────

    @rule(process=PROCESS, hours=st.integers(1, 2))
    def let_pass(self, process: int, hours: int) -> None:
        self.run(self.place.let_pass(hours * HOUR))
        self.model.now += hours * HOUR
        self._stage(process)

    def _stage(self, process: int) -> None:
        """As workers do all the time: until then, what is due is available in some stores and not in others."""
        wait, expected = self.run(self.as_process(process).stage(self.queues)), self.model.stage(self.queues)
        assert (wait is None) is (expected is None), f"the next job is due in {wait} s instead of {expected}"
        assert wait is None or expected is None or expected - SHORT < wait <= expected

    @rule(process=PROCESS, times=st.integers(1, 2))
    def rescue(self, process: int, times: int) -> None:
        for _ in range(times):
            assert self.run(self.as_process(process).rescue(self.queues)) == self.model.rescue(self.queues)

    @precondition(lambda self: self.model.failed)
    @rule(process=PROCESS, data=st.data())
    def retry_failed(self, process: int, data: st.DataObject) -> None:
        self._retry_failed(process, data.draw(st.lists(st.sampled_from(self._rows()), min_size=1, unique_by=_job_id)))

    def _retry_failed(self, process: int, rows: list[FailedJob]) -> None:
        """Twice, as by two operators."""
        keys = {row.job_id: ordering_key_of(row.payload) for row in rows}
        for _ in range(2):
            count = self.run(self.as_process(process).retry_failed(rows))
            assert count == self.model.retry_failed(ids(rows), keys)

    def _rows(self) -> list[FailedJob]:
        return [row for queue in self.queues for row in self.run(self.drivers[0].failures.rows(queue=queue))]

    @precondition(lambda self: len(self.model.jobs) > 5)
    @rule(process=PROCESS, queue=QUEUE)
    def clear(self, process: int, queue: int) -> None:
        name = self.queues[queue]
        assert self.run(self.as_process(process).clear(name)) == self.model.clear(name)

    @rule(process=PROCESS)
    def die(self, process: int) -> None:
        """Another process comes in its place."""
        self.run(self.drivers[process].close())
        self.drivers[process] = self._open()

    # ── what is looked at ────────────────────────────────────────────────────────────────────────────

    @invariant()
    def it_is_where_the_model_is(self) -> None:
        for queue in self.queues:
            assert states(self.run(self.drivers[0].stats(queue))) == self.model.states(queue)

    @rule(process=PROCESS)
    def look(self, process: int) -> None:
        driver = self.drivers[process]
        assert set(self.run(driver.queues())) & set(self.queues) == self.model.queues()
        assert self.run(driver.is_idle(self.queues)) is self.model.is_idle(self.queues)
        for queue in self.queues:
            held = [job for job in self.model.jobs.values() if job.queue == queue]
            assert self.run(driver.size(queue)) == len(held)
        assert {row.job_id: row.payload for row in self._rows()} == {
            job_id: failure.payload for job_id, failure in self.model.failed.items()
        }

    def teardown(self) -> None:
        try:
            self._work_off()
        finally:
            for driver in self.drivers:
                self.run(driver.close())

    def _work_off(self) -> None:
        """Whatever is left comes out: nothing is lost, and nothing is there that should not be."""
        if rows := self._rows():
            self._retry_failed(0, rows)
        while self.model.jobs:
            self.let_pass(0, 2)
            self.rescue(0, 1)
            self._work(0, ALL)
        assert self.run(self.drivers[0].fetch(self.queues, ALL, LONG)) == []
        self.look(0)


def _job_id(row: FailedJob) -> str:
    return row.job_id


async def _at_once(*calls: Awaitable[T]) -> list[T]:
    return list(await asyncio.gather(*calls))


@pytest.mark.timeout(600)  # a failure is made as short as it can be, which takes minutes
def test_a_store_does_what_the_model_does(place: Place) -> None:
    with asyncio.Runner() as runner:

        def run(awaitable: Awaitable[T]) -> T:
            async def awaited() -> T:
                return await awaitable

            return runner.run(awaited())

        machine = type("StoreOfATest", (Store,), {"place": place, "run": staticmethod(run)})
        run_state_machine_as_test(machine, settings=settings(examples(10), stateful_step_count=40))
