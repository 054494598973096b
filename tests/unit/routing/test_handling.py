from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from core.clock import SystemClock
from core.errors import (
    BrokerUnavailableError,
    MessageError,
    NoRouteError,
    ParameterError,
    PayloadError,
    QueueUnavailableError,
)
from core.middleware import Middleware, NextHandler
from core.mqtt.message import IncomingMessage, MessageProperties
from core.observability.events import (
    Events,
    MessageDropped,
    MessageFailed,
    MessageHandled,
    MessageRetried,
    StoreBack,
    StoreLost,
)
from core.router import Router
from core.routing.context import Context
from core.routing.handling import MessageHandler
from core.tasks import cancel_for_stop
from tests.unit.routing.conftest import ManualClock, Records

Handling = Callable[..., MessageHandler]

MESSAGE = IncomingMessage("pumps/7", b'{"value": 1}', qos=1)


@dataclass
class Reading:
    value: float


class Failing:
    """Raises the exceptions given, one per call; then returns."""

    def __init__(self, *exceptions: BaseException) -> None:
        self.exceptions = list(exceptions)
        self.calls = 0

    async def __call__(self) -> None:
        self.calls += 1
        if self.exceptions:
            raise self.exceptions.pop(0)


class Noting(Middleware):
    def __init__(self, name: str, notes: list[str]) -> None:
        self._name = name
        self._notes = notes

    async def handle(self, context: Context, next_handler: NextHandler) -> Any:
        self._notes.append(f"{self._name} in")
        result = await next_handler(context)
        self._notes.append(f"{self._name} out with {result}")
        return f"{self._name}({result})"


async def test_a_message_reaches_its_controller(handling: Handling, records: Records) -> None:
    got: list[Any] = []

    async def controller(pump: int, payload: Reading, context: Context) -> None:
        got.extend([pump, payload, context["topic"]])

    await handling("pumps/{pump}", controller).handle(MESSAGE)
    assert got == [7, Reading(1.0), "pumps/7"]
    assert records.events == [MessageHandled("pumps/7", "pumps/{pump}", 0.0)]
    assert records.failures == []


async def test_middleware_wraps_the_controller_as_an_onion_and_passes_its_result_out(
    handling: Handling,
) -> None:
    notes: list[str] = []
    router = Router()
    with router.group(middleware=[Noting("outer", notes)]) as group:
        group.on("pumps/+", lambda: "done", middleware=[Noting("inner", notes)])
    await handling(router).handle(MESSAGE)
    assert notes == ["outer in", "inner in", "inner out with done", "outer out with inner(done)"]


async def test_middleware_may_replace_the_payload_before_it_is_decoded(handling: Handling) -> None:
    class Unwrapping(Middleware):
        async def handle(self, context: Context, next_handler: NextHandler) -> Any:
            context.payload = context.payload.removeprefix(b"wrapped:")
            return await next_handler(context)

    got: list[Any] = []
    router = Router()
    router.on("a", lambda payload: got.append(payload), middleware=[Unwrapping()])
    await handling(router).handle(IncomingMessage("a", b"wrapped:[1]"))
    assert got == [[1]]


async def test_a_message_left_out_on_purpose_is_told_as_dropped(handling: Handling, records: Records) -> None:
    class Dropping(Middleware):
        async def handle(self, context: Context, next_handler: NextHandler) -> Any:
            context.drop("a duplicate")

    router = Router()
    router.on("pumps/+", Failing(AssertionError("must not run")), middleware=[Dropping])
    await handling(router).handle(MESSAGE)
    assert records.events == [MessageDropped("pumps/7", "a duplicate")]


# ── plain functions ──


async def test_a_plain_function_runs_in_a_thread_with_the_context_variables(handling: Handling) -> None:
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("set")
    got: list[Any] = []
    await handling("pumps/+", lambda: got.extend([threading.current_thread(), variable.get()])).handle(MESSAGE)
    assert got[0] is not threading.current_thread()
    assert got[1] == "set"


async def test_what_a_plain_function_hands_back_to_be_awaited_is_awaited(handling: Handling) -> None:
    controller = Failing()
    await handling("pumps/+", lambda: controller()).handle(MESSAGE)
    assert controller.calls == 1


async def test_stop_iteration_from_a_plain_function_is_a_failure_not_a_standstill(
    handling: Handling, records: Records
) -> None:
    await handling("pumps/+", lambda: next(iter(())), tries=1).handle(MESSAGE)
    assert "raised StopIteration" in str(records.failures[0][1])


# ── failures ──


async def test_a_controller_is_tried_as_often_as_allowed(
    handling: Handling, records: Records, clock: ManualClock
) -> None:
    controller = Failing(*(ValueError(str(number)) for number in range(5)))
    await handling("pumps/+", controller, tries=3).handle(MESSAGE)
    ((message, exception, attempts),) = records.failures
    assert (message, str(exception), attempts) == (MESSAGE, "2", 3)
    assert controller.calls == 3
    assert [type(event) for event in records.events] == [MessageRetried, MessageRetried, MessageFailed]
    assert len(clock.slept) == 2
    assert clock.slept == [event.retry_in for event in records.events if isinstance(event, MessageRetried)]


async def test_a_later_try_may_succeed(handling: Handling, records: Records) -> None:
    await handling("pumps/+", Failing(ValueError("once")), tries=3).handle(MESSAGE)
    assert records.failures == []
    assert records.kinds() == ["MessageRetried", "MessageHandled"]


async def test_each_try_has_a_context_of_its_own_but_the_same_correlation_id(handling: Handling) -> None:
    contexts: list[Context] = []

    async def controller(context: Context) -> None:
        contexts.append(context)
        context.state["seen"] = True
        raise ValueError

    await handling("pumps/+", controller, tries=2).handle(MESSAGE)
    first, second = contexts
    assert first is not second
    assert first.correlation_id == second.correlation_id
    assert first.received_at == second.received_at


@pytest.mark.parametrize(
    ("pattern", "topic", "payload", "error"),
    [
        ("pumps/+", "elsewhere", b"{}", NoRouteError),
        ("pumps/{pump:int}", "pumps/seven", b"{}", NoRouteError),
        ("pumps/{pump}", "pumps/7", b"not JSON", PayloadError),
        ("pumps/{pump}", "pumps/7", b"", PayloadError),
        ("pumps/{pump}", "pumps/7", b"\xff\xfe", PayloadError),
        ("pumps/{pump}", "pumps/seven", b'{"value": 1}', ParameterError),
    ],
)
async def test_what_another_try_would_not_change_goes_on_record_at_once(
    handling: Handling, records: Records, pattern: str, topic: str, payload: bytes, error: type[MessageError]
) -> None:
    await handling(pattern, typed).handle(IncomingMessage(topic, payload))
    ((message, exception, attempts),) = records.failures
    assert (message.topic, message.payload, type(exception), attempts) == (topic, payload, error, 1)
    assert records.kinds() == ["MessageFailed"]


async def typed(payload: Reading, pump: int = 0) -> None: ...


@pytest.mark.parametrize(
    "exception", [ValueError("broken"), asyncio.CancelledError(), SystemExit(1), BaseException("as a panic in Rust")]
)
async def test_pitfall_10_no_failure_of_a_controller_goes_unread(
    handling: Handling, records: Records, exception: BaseException
) -> None:
    await handling("pumps/+", Failing(exception), tries=1).handle(MESSAGE)
    assert [failure[1] for failure in records.failures] == [exception]
    assert records.events == [MessageFailed("pumps/7", 1, exception)]


async def test_pitfall_09_a_store_that_is_away_is_waited_for_and_counts_as_no_try(
    handling: Handling, records: Records, clock: ManualClock
) -> None:
    away = [QueueUnavailableError("away") for _ in range(20)]
    controller = Failing(*away)
    await handling("pumps/+", controller, tries=1).handle(MESSAGE)
    assert controller.calls == 21
    assert records.failures == []
    assert [type(event) for event in records.events] == [StoreLost, MessageHandled, StoreBack]
    assert clock.slept[0] < 1
    assert max(clock.slept) <= 1.25


async def test_a_message_that_waits_keeps_no_error_meanwhile(handling: Handling) -> None:
    """A thousand that do so, each with its traceback, would hold megabytes, and let garbage grow old."""
    errors = weakref.WeakSet[Exception]()
    left = list[int]()

    async def controller() -> None:
        if len(left) < 3:
            error = QueueUnavailableError("away")
            errors.add(error)
            raise error

    class Clock(ManualClock):
        async def sleep(self, seconds: float) -> None:
            gc.collect()
            left.append(len(errors))
            await asyncio.sleep(0)

    handler = handling("pumps/+", controller, clock=Clock(), events=Events())
    await handler.handle(MESSAGE)
    assert left[:3] == [0, 0, 0]
    assert not any(left)


async def test_a_broker_that_is_away_is_waited_for_with_a_message_that_it_does_not_deliver_again(
    handling: Handling, records: Records
) -> None:
    message = IncomingMessage("pumps/7", b"", qos=0)
    await handling("pumps/+", Failing(BrokerUnavailableError("away")), tries=1).handle(message)
    assert records.kinds() == ["StoreLost", "MessageHandled", "StoreBack"]


async def test_a_controller_that_the_broker_fails_is_not_run_again_before_the_message_comes_again(
    handling: Handling, records: Records
) -> None:
    controller = Failing(BrokerUnavailableError("away"))
    with pytest.raises(BrokerUnavailableError):
        await handling("pumps/+", controller).handle(IncomingMessage("pumps/7", b"", qos=1))
    assert controller.calls == 1
    assert records.events == []
    assert records.failures == []


async def test_the_store_is_back_when_no_message_waits_any_more(handling: Handling, records: Records) -> None:
    refused, accept = asyncio.Event(), asyncio.Event()

    async def record(*_: object) -> None:
        refused.set()
        if not accept.is_set():
            raise OSError("refused")

    router = Router()
    router.on("bad", Failing(*[ValueError()] * 9))
    router.on("good", Failing())
    handler = handling(router, tries=1, record_failure=record, clock=SystemClock())
    waiting = asyncio.create_task(handler.handle(IncomingMessage("bad", b"")))
    await refused.wait()
    await handler.handle(IncomingMessage("good", b""))
    assert records.kinds().count("StoreBack") == 0
    accept.set()
    await waiting
    assert records.kinds() == ["StoreLost", "MessageHandled", "StoreBack", "MessageFailed"]


@pytest.mark.parametrize("error", [QueueUnavailableError("away"), OSError("disk full")])
async def test_a_failure_is_recorded_however_long_it_takes(
    handling: Handling, records: Records, error: Exception
) -> None:
    attempts = Failing(error, error, error)

    job_ids = set()

    async def record(message: IncomingMessage, exception: BaseException, tries: int, job_id: str) -> None:
        job_ids.add(job_id)
        await attempts()
        await records.record_failure(message, exception, tries, job_id)

    handler = handling("pumps/+", Failing(ValueError()), tries=1, record_failure=record)
    await handler.handle(MESSAGE)
    assert attempts.calls == 4
    assert len(records.failures) == 1
    assert len(job_ids) == 1  # so that an attempt whose answer was lost leaves no second record
    assert [type(event) for event in records.events] == [StoreLost, StoreBack, MessageFailed]


# ── cancelled by itself, or by us ──


def cancel_own_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task
    task.cancel()
    return task


async def time_out_as_before_3_11() -> None:
    cancel_own_task()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        raise TimeoutError("no answer") from None


async def leave_the_cancellation_uncaught() -> None:
    cancel_own_task()
    await asyncio.Event().wait()


async def fail_before_the_cancellation_comes() -> None:
    cancel_own_task()
    raise ValueError("failed meanwhile")


@pytest.mark.parametrize(
    ("controller", "error"),
    [
        (time_out_as_before_3_11, TimeoutError),
        (leave_the_cancellation_uncaught, asyncio.CancelledError),
        (fail_before_the_cancellation_comes, ValueError),
    ],
)
async def test_a_controller_that_cancels_its_own_task_has_failed(
    handling: Handling, records: Records, controller: Callable[[], Awaitable[None]], error: type[BaseException]
) -> None:
    async def record(*given: Any) -> None:
        await asyncio.sleep(0)  # where a cancellation that is still to come would strike
        await records.record_failure(*given)

    task = asyncio.create_task(handling("pumps/+", controller, tries=2, record_failure=record).handle(MESSAGE))
    await asyncio.wait({task})
    assert not task.cancelled()
    ((_, exception, attempts),) = records.failures
    assert (type(exception), attempts) == (error, 2)
    assert records.kinds() == ["MessageRetried", "MessageFailed"]


async def test_the_next_try_does_not_inherit_a_cancellation(handling: Handling) -> None:
    inherited: list[int] = []

    async def controller() -> None:
        task = asyncio.current_task()
        assert task
        inherited.append(task.cancelling())
        await time_out_as_before_3_11()

    await asyncio.create_task(handling("pumps/+", controller, tries=3).handle(MESSAGE))
    assert inherited == [0, 0, 0]  # else asyncio.TaskGroup, for one, would take the next try for cancelled


async def test_being_stopped_is_passed_on_and_is_no_failure(handling: Handling, records: Records) -> None:
    running = asyncio.Event()

    async def controller() -> None:
        running.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(handling("pumps/+", controller).handle(MESSAGE))
    await running.wait()
    cancel_for_stop(task)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert records.failures == []


async def test_what_a_controller_makes_of_being_stopped_is_no_failure(handling: Handling, records: Records) -> None:
    running = asyncio.Event()

    async def controller() -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError("interrupted") from None

    task = asyncio.create_task(handling("pumps/+", controller).handle(MESSAGE))
    await running.wait()
    cancel_for_stop(task)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert records.events == []


async def test_a_message_that_waits_for_a_store_is_stopped_and_its_turn_is_free(
    handling: Handling, records: Records
) -> None:
    router, asked, back = Router(), asyncio.Event(), asyncio.Event()
    handled = list[bytes]()

    async def controller(payload: bytes) -> None:
        asked.set()
        if not back.is_set():
            raise QueueUnavailableError("away")
        handled.append(payload)

    router.on("pumps/{pump}", controller, ordered_by="pump")
    handler = handling(router, clock=SystemClock())
    messages = [IncomingMessage("pumps/7", b"%d" % number, qos=1) for number in range(5)]
    tasks = [asyncio.create_task(handler.handle(message)) for message in messages]
    await asked.wait()
    cancel_for_stop(tasks[0])
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    back.set()
    await asyncio.gather(*tasks[1:])
    assert handled == [b"1", b"2", b"3", b"4"]
    assert records.failures == []


async def test_a_cancellation_of_the_controllers_own_that_comes_while_it_waits_is_a_failed_try(
    handling: Handling, records: Records
) -> None:
    async def controller() -> None:
        if not records.kinds():
            own_task = asyncio.current_task()
            assert own_task
            asyncio.get_running_loop().call_later(0.01, own_task.cancel)
            raise QueueUnavailableError("away")

    await handling("pumps/+", controller, clock=SystemClock()).handle(MESSAGE)
    assert records.kinds() == ["StoreLost", "MessageRetried", "MessageHandled", "StoreBack"]


async def test_being_stopped_while_a_failure_cannot_be_recorded_leaves_the_message(
    handling: Handling,
) -> None:
    asked = asyncio.Event()

    async def record(*_: object) -> None:
        asked.set()
        await asyncio.Event().wait()

    handler = handling("pumps/+", Failing(ValueError()), tries=1, record_failure=record)
    task = asyncio.create_task(handler.handle(MESSAGE))
    await asked.wait()
    cancel_for_stop(task)
    with pytest.raises(asyncio.CancelledError):
        await task


# ── one pass, for a worker ──


async def test_one_pass_raises_whatever_comes(handling: Handling, records: Records) -> None:
    error = ValueError("broken")
    with pytest.raises(ValueError, match="broken") as raised:
        await handling("pumps/+", Failing(error)).run_once(MESSAGE)
    assert raised.value is error
    with pytest.raises(NoRouteError):
        await handling("pumps/+", Failing()).run_once(IncomingMessage("elsewhere", b""))
    assert records.failures == []


# ── which process ──


@pytest.mark.parametrize(("serves", "ran"), [(True, ["shared"]), (False, ["own"]), (None, ["shared", "own"])])
async def test_a_message_is_left_to_the_process_that_its_route_belongs_to(
    handling: Handling, records: Records, serves: bool | None, ran: list[str]
) -> None:
    got: list[str] = []
    router = Router()
    router.on("pumps/{pump}", lambda: got.append("shared"), shared=True)
    router.on("#", lambda: got.append("own"))
    handler = handling(router, shared=serves)
    await handler.handle(MESSAGE)
    await handler.handle(IncomingMessage("tanks/7", b""))
    assert got == ran
    assert records.failures == []


# ── the client ──


class Published:
    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    async def publish(
        self,
        topic: str,
        payload: bytes | str,
        *,
        qos: int = 0,
        retain: bool = False,
        properties: MessageProperties | None = None,
    ) -> None:
        self.calls.append((topic, payload, qos, retain, properties))


async def test_a_controller_publishes_and_replies(handling: Handling) -> None:
    async def controller(client: Any) -> None:
        await client.publish("state", {"ok": True}, qos=1, retain=True)
        await client.publish("raw", b"\x00")
        await client.reply("done")

    published = Published()
    request = MessageProperties(response_topic="answers/7", correlation_data=b"\x01\xff")
    handler = handling("pumps/+", controller)
    handler.publisher = published
    await handler.handle(IncomingMessage("pumps/7", b"", properties=request))
    assert published.calls == [
        ("state", b'{"ok":true}', 1, True, None),
        ("raw", b"\x00", 0, False, None),
        ("answers/7", "done", 1, False, MessageProperties(correlation_data=b"\x01\xff")),
    ]


async def test_a_reply_to_nowhere_goes_on_record(handling: Handling, records: Records) -> None:
    async def controller(client: Any) -> None:
        await client.reply("done")

    await handling("pumps/+", controller, publisher=Published()).handle(MESSAGE)
    assert "no response topic" in str(records.failures[0][1])


async def test_publishing_without_a_connection_says_so(handling: Handling) -> None:
    async def controller(client: Any) -> None:
        await client.publish("state", "on")

    with pytest.raises(BrokerUnavailableError, match="no connection to the MQTT broker"):
        await handling("pumps/+", controller).run_once(MESSAGE)
