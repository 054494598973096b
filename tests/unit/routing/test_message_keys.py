"""Routes that know messages again, and routes that take them in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import pytest

from core.errors import BrokerUnavailableError, MessagePartError, QueueUnavailableError
from core.job import Job
from core.middleware import Middleware, NextHandler
from core.mqtt.message import IncomingMessage, MessageProperties
from core.observability.events import MessageFailed
from core.queue.drivers.memory import MemoryDriver
from core.queue.queue_manager import DispatchOptions, QueueManager, dispatch, dispatch_from_thread
from core.queue.state import NewJob
from core.router import Router
from core.routing.context import Context
from core.routing.handling import MessageHandler
from core.tasks import cancel_for_stop
from tests.unit.routing.conftest import Records

Handling = Callable[..., MessageHandler]


class Ping(Job):
    n: int = 0


class Keyed(Job):
    ordering_key = "n"
    n: int = 0


class Recording(MemoryDriver):
    def __init__(self) -> None:
        super().__init__()
        self.pushed: list[NewJob] = []
        self.down = 0
        """Pushes that are stored, and whose answer is lost."""

    async def push(self, jobs: Sequence[NewJob]) -> Mapping[str, str]:
        self.pushed += jobs
        if self.down:
            self.down -= 1
            raise QueueUnavailableError("no answer")
        return await super().push(jobs)


@pytest.fixture
async def driver() -> AsyncIterator[Recording]:
    driver = Recording()
    manager = QueueManager({"memory": lambda: driver}, DispatchOptions("memory"))
    await manager.open()
    yield driver
    await manager.close()


def routed(handler: Any, pattern: str = "pumps/{pump}", **options: Any) -> Router:
    router = Router()
    router.on(pattern, handler, **options)
    return router


def message(payload: bytes = b"{}", topic: str = "pumps/7", qos: int = 1, connection: int = 1, **more: Any) -> Any:
    return IncomingMessage(topic, payload, qos=qos, connection=connection, **more)


async def ping() -> None:
    await dispatch(Ping())


def keys(driver: Recording) -> list[str | None]:
    return [job.unique_key for job in driver.pushed]


# ── deduplicate_by ───────────────────────────────────────────────────────────────────────────────────────


async def test_a_message_that_comes_again_dispatches_under_the_same_key(handling: Handling, driver: Recording) -> None:
    async def controller() -> None:
        await asyncio.gather(dispatch(Ping()), dispatch(Ping()))
        await asyncio.to_thread(dispatch_from_thread, Ping())

    handler = handling(routed(controller, deduplicate_by="id", deduplicate_for=60))
    for _ in range(2):
        await handler.handle(message(b'{"id": "x"}'))
    first, again = keys(driver)[:3], keys(driver)[3:]
    assert first == again
    assert len(set(first)) == 3 and None not in first
    assert {job.unique_for for job in driver.pushed} == {60.0}


async def test_a_controller_that_is_not_async_dispatches_so_too(handling: Handling, driver: Recording) -> None:
    def controller() -> None:
        dispatch_from_thread(Ping())

    handler = handling(routed(controller, deduplicate_by="id"))
    for _ in range(2):
        await handler.handle(message(b'{"id": "x"}'))
    assert keys(driver)[0] == keys(driver)[1] is not None


@pytest.mark.parametrize(
    ("part", "one", "other"),
    [
        ("id", message(b'{"id": 1}'), message(b'{"id": 2}')),
        ("id", message(b'{"id": 1}'), message(b'{"id": "1"}')),
        ("id", message(b'{"id": 1}'), message(b'{"id": 1}', topic="pumps/8")),
        ("content", message(b"a"), message(b"b")),
        (
            "property.id",
            message(properties=MessageProperties(user_properties=(("id", "1"),))),
            message(properties=MessageProperties(user_properties=(("id", "2"),))),
        ),
    ],
)
async def test_another_message_dispatches_under_another_key(
    handling: Handling, driver: Recording, part: str, one: IncomingMessage, other: IncomingMessage
) -> None:
    handler = handling(routed(ping, deduplicate_by=part))
    for each in (one, other, one):
        await handler.handle(each)
    first, second, third = keys(driver)
    assert first == third != second


async def test_the_same_message_on_another_route_is_another(handling: Handling, driver: Recording) -> None:
    for pattern in ("pumps/{pump}", "pumps/{pump:int}"):
        await handling(routed(ping, pattern, deduplicate_by="content")).handle(message())
    assert len(set(keys(driver))) == 2


async def test_fields_in_another_order_are_the_same_part(handling: Handling, driver: Recording) -> None:
    handler = handling(routed(ping, deduplicate_by="id"))
    for payload in (b'{"id": {"a": 1, "b": 2}}', b'{"id": {"b": 2, "a": 1}, "more": 3}'):
        await handler.handle(message(payload))
    assert len(set(keys(driver))) == 1


async def test_each_try_begins_to_count_anew(handling: Handling, driver: Recording, records: Records) -> None:
    tries = 0

    async def controller() -> None:
        nonlocal tries
        tries += 1
        await dispatch(Ping())
        if tries < 3:
            raise ValueError("not yet")
        await dispatch(Ping())

    await handling(routed(controller, deduplicate_by="id"), tries=3).handle(message(b'{"id": 1}'))
    first, second = keys(driver)  # a try that counted on would not know its first job as the one that is stored
    assert first != second
    assert records.failures == []


async def test_a_push_whose_answer_was_lost_is_repeated_under_its_key(handling: Handling, driver: Recording) -> None:
    driver.down = 2
    await handling(routed(ping, deduplicate_by="id")).handle(message(b'{"id": 1}'))
    assert len(keys(driver)) == 3
    assert len(set(keys(driver))) == 1


async def test_a_message_that_is_put_back_by_hand_is_known_again(handling: Handling, driver: Recording) -> None:
    handler = handling(routed(ping, deduplicate_by="id"))
    await handler.handle(message(b'{"id": 1}'))
    await handler.run_once(message(b'{"id": 1}'))
    assert len(set(keys(driver))) == 1


async def test_middleware_changes_nothing_about_the_part(handling: Handling, driver: Recording) -> None:
    class Emptying(Middleware):
        async def handle(self, context: Context, next_handler: NextHandler) -> Any:
            context.payload = b""
            return await next_handler(context)

    handler = handling(routed(ping, deduplicate_by="id", middleware=[Emptying()]))
    await handler.handle(message(b'{"id": 1}'))
    assert keys(driver) != [None]


async def test_other_routes_dispatch_as_ever(handling: Handling, driver: Recording) -> None:
    router = routed(ping, deduplicate_by="id", ordered_by="pump")
    router.on("tanks/{tank}", ping)
    handler = handling(router)
    await handler.handle(message(b'{"id": 1}'))
    await handler.handle(message(topic="tanks/1"))
    assert [(job.unique_key is None, job.ordering_key) for job in driver.pushed] == [(False, "7"), (True, None)]


@pytest.mark.parametrize("options", [{"deduplicate_by": "id"}, {"ordered_by": "id"}], ids=str)
async def test_a_message_without_the_part_goes_on_record_at_once(
    handling: Handling, driver: Recording, records: Records, options: dict[str, Any]
) -> None:
    handler = handling(routed(ping, **options))
    await handler.handle(message(b'{"other": 1}'))
    ((failed, exception, attempts),) = records.failures
    assert (failed.payload, type(exception), attempts) == (b'{"other": 1}', MessagePartError, 1)
    assert records.kinds() == ["MessageFailed"]
    assert driver.pushed == []
    await handler.handle(message(b'{"id": 1}'))
    assert len(driver.pushed) == 1


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b'{"id": 1.5}', "is a float; a key is text"),
        (b'{"id": true}', "is a bool"),
        (b'{"id": [1]}', "is a list"),
        (b'{"id": ""}', "has 0 characters"),
        (b'{"id": "%s"}' % (b"x" * 256), "has 256 characters"),
        (b'{"id": "a\\u0000"}', "has a control character"),
    ],
)
async def test_a_part_that_cannot_be_a_key_goes_on_record(
    handling: Handling, driver: Recording, records: Records, payload: bytes, said: str
) -> None:
    await handling(routed(ping, ordered_by="id")).handle(message(payload))
    ((_, exception, _),) = records.failures
    assert isinstance(exception, MessagePartError)
    assert said in str(exception)


# ── ordered_by ───────────────────────────────────────────────────────────────────────────────────────────


class Gates:
    """A controller that lets a message go on when the test says so; its payload names it."""

    def __init__(self) -> None:
        self.began: list[bytes] = []
        self.ended: list[bytes] = []
        self.fail: dict[bytes, list[BaseException]] = {}
        self._gates: dict[bytes, asyncio.Event] = {}

    async def __call__(self, payload: bytes) -> None:
        self.began.append(payload)
        await self._gate(payload).wait()
        if self.fail.get(payload):
            raise self.fail[payload].pop(0)
        await dispatch(Ping())
        self.ended.append(payload)

    def open(self, *payloads: bytes) -> None:
        for each in payloads:
            self._gate(each).set()

    def _gate(self, payload: bytes) -> asyncio.Event:
        return self._gates.setdefault(payload, asyncio.Event())


async def turns() -> None:
    """Let every task that can go on do so."""
    for _ in range(50):
        await asyncio.sleep(0)


def arriving(handler: MessageHandler, *messages: IncomingMessage) -> list[asyncio.Task[None]]:
    return [asyncio.create_task(handler.handle(each)) for each in messages]


def of(payload: bytes, pump: int = 7, qos: int = 1, connection: int = 1) -> IncomingMessage:
    return IncomingMessage(f"pumps/{pump}", payload, qos=qos, connection=connection)


@pytest.fixture
def gates(driver: Recording) -> Gates:
    return Gates()


@pytest.fixture
def in_order(handling: Handling, gates: Gates) -> MessageHandler:
    return handling(routed(gates, ordered_by="pump"), tries=3)


async def test_messages_of_a_key_are_handled_one_at_a_time_in_their_order(
    in_order: MessageHandler, gates: Gates
) -> None:
    names = [str(number).encode() for number in range(20)]
    tasks = arriving(in_order, *map(of, names))
    for position, name in enumerate(names):
        await turns()
        assert gates.began == names[: position + 1]
        gates.open(name)
    await asyncio.gather(*tasks)
    assert gates.ended == names


async def test_other_keys_and_other_routes_are_not_held_up(handling: Handling, gates: Gates) -> None:
    router = routed(gates, ordered_by="pump")
    router.on("tanks/{pump}", gates, ordered_by="pump")
    router.on("free/{pump}", gates)
    messages = [of(b"a"), of(b"b", 8), IncomingMessage("tanks/7", b"c")]
    tasks = arriving(handling(router), *messages, IncomingMessage("free/7", b"d"), IncomingMessage("free/7", b"e"))
    await turns()
    assert gates.began == [b"a", b"b", b"c", b"d", b"e"]
    gates.open(*gates.began)
    await asyncio.gather(*tasks)


async def test_a_message_keeps_its_turn_through_its_tries(
    in_order: MessageHandler, gates: Gates, records: Records
) -> None:
    gates.fail[b"1"] = [ValueError("once"), ValueError("twice")]
    gates.open(b"1", b"2")
    await asyncio.gather(*arriving(in_order, of(b"1"), of(b"2")))
    assert gates.began == [b"1", b"1", b"1", b"2"]
    assert records.failures == []


async def test_a_message_that_is_given_up_lets_the_next_go_on_once_it_is_on_record(
    handling: Handling, gates: Gates
) -> None:
    recorded = list[int]()

    async def record(*_: object) -> None:
        await asyncio.sleep(0)
        recorded.append(len(gates.began))

    gates.fail[b"1"] = [ValueError("always")]
    gates.open(b"1", b"2")
    handler = handling(routed(gates, ordered_by="pump"), tries=1, record_failure=record)
    await asyncio.gather(*arriving(handler, of(b"1"), of(b"2")))
    assert recorded == [1]
    assert gates.ended == [b"2"]


async def test_a_message_without_a_usable_key_waits_for_nobody(
    handling: Handling, gates: Gates, records: Records
) -> None:
    handler = handling(routed(gates, ordered_by="payload.id"))
    tasks = arriving(handler, of(b'{"id": 1}'), of(b"none"))
    await turns()
    assert [type(event) for event in records.events] == [MessageFailed]
    gates.open(b'{"id": 1}')
    await asyncio.gather(*tasks)


async def test_a_store_that_is_away_holds_up_its_key_and_changes_no_order(
    in_order: MessageHandler, gates: Gates, driver: Recording
) -> None:
    driver.down = 3
    gates.open(b"1", b"2")
    await asyncio.gather(*arriving(in_order, of(b"1"), of(b"2")))
    assert gates.began == [b"1"] * 4 + [b"2"]


async def test_jobs_of_an_ordered_message_have_its_key(handling: Handling, driver: Recording) -> None:
    async def controller() -> None:
        await dispatch(Ping())
        await dispatch(Keyed(n=3))

    await handling(routed(controller, "pumps/{pump:int}", ordered_by="pump")).handle(message(topic="pumps/007"))
    assert [job.ordering_key for job in driver.pushed] == ["7", "3"]
    assert keys(driver) == [None, None]


async def test_nothing_is_kept_of_lines_that_are_over(in_order: MessageHandler, gates: Gates) -> None:
    gates.open(b"x")
    await asyncio.gather(*arriving(in_order, *(of(b"x", pump) for pump in range(100))))
    assert len(in_order._turns._locks) == 0


async def test_being_stopped_gives_no_turn_away(in_order: MessageHandler, gates: Gates) -> None:
    tasks = arriving(in_order, of(b"1"), of(b"2"), of(b"3"))
    await turns()
    for task in tasks:
        cancel_for_stop(task)
    await asyncio.wait(tasks)
    assert [task.cancelled() for task in tasks] == [True] * 3
    assert gates.began == [b"1"]


# ── what comes again ─────────────────────────────────────────────────────────────────────────────────────


async def outcomes(tasks: Sequence[asyncio.Task[None]]) -> list[str]:
    results = await asyncio.gather(*tasks, return_exceptions=True)
    return [type(each).__name__ if each else "handled" for each in results]


async def test_messages_behind_one_that_comes_again_come_again_as_well(in_order: MessageHandler, gates: Gates) -> None:
    """Handled now, they would overtake it."""
    gates.fail[b"1"] = [BrokerUnavailableError("away")]
    gates.open(b"1", b"2", b"3", b"4", b"other")
    first = arriving(in_order, of(b"1"), of(b"2"), of(b"other", 8), of(b"3"))
    assert await outcomes(first) == [
        "BrokerUnavailableError",
        "BrokerUnavailableError",
        "handled",
        "BrokerUnavailableError",
    ]
    assert await outcomes(arriving(in_order, of(b"4"))) == ["BrokerUnavailableError"]  # read later, from the same
    again = arriving(in_order, *(of(name, connection=2) for name in (b"1", b"2", b"3", b"4")))
    assert await outcomes(again) == ["handled"] * 4
    assert gates.ended == [b"other", b"1", b"2", b"3", b"4"]


async def test_a_message_that_does_not_come_again_is_handled_all_the_same(
    in_order: MessageHandler, gates: Gates
) -> None:
    gates.fail[b"1"] = [BrokerUnavailableError("away")]
    gates.open(b"1", b"2")
    assert await outcomes(arriving(in_order, of(b"1"), of(b"2", qos=0))) == ["BrokerUnavailableError", "handled"]


async def test_a_message_of_the_new_connection_is_not_held_against_the_old(
    in_order: MessageHandler, gates: Gates
) -> None:
    gates.fail[b"1"] = [BrokerUnavailableError("away")]
    tasks = arriving(in_order, of(b"1"), of(b"2"), of(b"1", connection=2), of(b"2", connection=2))
    await turns()
    gates.open(b"1", b"2")
    assert await outcomes(tasks) == ["BrokerUnavailableError", "BrokerUnavailableError", "handled", "handled"]
    assert gates.ended == [b"1", b"2"]


async def test_lines_of_earlier_connections_are_forgotten(in_order: MessageHandler, gates: Gates) -> None:
    for connection in range(1, 50):
        gates.fail[b"1"] = [BrokerUnavailableError("away")]
        gates.open(b"1")
        await outcomes(arriving(in_order, of(b"1", pump=connection, connection=connection)))
    assert len(in_order._turns._left) == 1
