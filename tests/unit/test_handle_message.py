"""A message that was given up: its record, and its second life in a worker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import handle_message
from core.errors import NotRunningError, PayloadError
from core.handle_message import FailedMessages, HandleMessage
from core.mqtt.message import NO_PROPERTIES, IncomingMessage, MessageProperties
from core.queue.drivers.memory import MemoryFailureStore
from core.queue.envelope import load_job, read_envelope
from core.queue.job_data import decode_data, encode_data
from core.queue.registry import JobRegistry

PROPERTIES = MessageProperties(
    content_type="application/json",
    response_topic="replies/1",
    correlation_data=b"\xff\x00",
    message_expiry=60,
    payload_is_text=True,
    user_properties=(("site", "a"), ("site", "b")),
)
MESSAGE = IncomingMessage("sensors/1", b"\xff\x00\xfe", qos=1, retain=True, properties=PROPERTIES, mid=7)

texts = st.none() | st.text()
messages = st.builds(
    HandleMessage,
    topic=st.text(),
    payload=st.binary(),
    qos=st.integers(0, 2),
    retain=st.booleans(),
    properties=st.builds(
        MessageProperties,
        content_type=texts,
        response_topic=texts,
        correlation_data=st.none() | st.binary(),
        message_expiry=st.none() | st.integers(0, 2**32 - 1),
        payload_is_text=st.booleans(),
        user_properties=st.lists(st.tuples(st.text(), st.text()), max_size=3).map(tuple),
    ),
)


class Runner:
    def __init__(self) -> None:
        self.messages: list[IncomingMessage] = []

    async def __call__(self, message: IncomingMessage) -> None:
        self.messages.append(message)


@pytest.fixture
def runner() -> Iterator[Runner]:
    runner = Runner()
    handle_message.bind(runner)
    yield runner
    handle_message.unbind(runner)


def error_of(message: str) -> PayloadError:
    try:
        raise PayloadError(message)
    except PayloadError as error:
        return error


async def recorded(message: IncomingMessage, attempts: int = 3) -> MemoryFailureStore:
    store = MemoryFailureStore()
    failed = FailedMessages(store, "redis", "default")
    await failed.record(message, error_of("the payload is not JSON"), attempts, "0190-id")
    return store


@given(messages)
def test_every_message_survives_the_store(job: HandleMessage) -> None:
    assert vars(decode_data(HandleMessage, encode_data(job))) == vars(job)


async def test_a_record_says_what_failed_where_and_how_often() -> None:
    (row,) = await (await recorded(MESSAGE)).rows()
    assert (row.job_id, row.connection, row.queue, row.attempts) == ("0190-id", "redis", "default", 3)
    assert row.job == "core.handle_message.HandleMessage"
    assert row.exception.startswith("Traceback (most recent call last):")
    assert row.exception.rstrip().endswith("PayloadError: the payload is not JSON")


@pytest.mark.parametrize(
    "message",
    [MESSAGE, IncomingMessage("a", b""), IncomingMessage("a", bytes(1024 * 1024))],
    ids=["all properties", "empty", "1 MiB"],
)
async def test_a_record_holds_the_whole_message(message: IncomingMessage, runner: Runner) -> None:
    (row,) = await (await recorded(message)).rows()
    envelope = read_envelope(row.payload)
    assert (envelope.id, envelope.queue) == (row.job_id, "default")
    job = load_job(envelope, JobRegistry([HandleMessage]))
    assert isinstance(job, HandleMessage)
    await job.handle()
    (again,) = runner.messages
    assert (again.topic, again.payload, again.qos, again.retain, again.properties) == (
        message.topic,
        message.payload,
        message.qos,
        message.retain,
        message.properties,
    )


async def test_a_record_is_made_once_however_often_it_is_tried() -> None:
    store = MemoryFailureStore()
    failed = FailedMessages(store, "redis", "default")
    for attempts in (3, 4):
        await failed.record(MESSAGE, error_of("no"), attempts, "0190-id")
    assert [row.attempts for row in await store.rows()] == [4]


async def test_a_record_is_dated_by_the_clock_it_is_given() -> None:
    class StillClock:
        def now(self) -> datetime:
            return datetime(2026, 1, 2, tzinfo=UTC)

        def monotonic(self) -> float:
            return 0.0

        async def sleep(self, seconds: float) -> None:
            raise AssertionError("nothing here sleeps")

    store = MemoryFailureStore()
    await FailedMessages(store, "redis", "default", StillClock()).record(MESSAGE, error_of("no"), 1, "0190-id")
    (row,) = await store.rows()
    assert json.loads(row.payload)["dispatched_at"] == "2026-01-02T00:00:00Z"


async def test_a_message_without_properties_comes_back_without(runner: Runner) -> None:
    await HandleMessage(topic="a", payload=b"x").handle()
    assert runner.messages == [IncomingMessage("a", b"x", properties=NO_PROPERTIES)]


async def test_the_runner_bound_last_runs_messages(runner: Runner) -> None:
    inner = Runner()
    handle_message.bind(inner)
    await HandleMessage(topic="a", payload=b"").handle()
    handle_message.unbind(inner)
    await HandleMessage(topic="b", payload=b"").handle()
    assert [each.topic for each in inner.messages] == ["a"]
    assert [each.topic for each in runner.messages] == ["b"]


async def test_without_an_application_a_message_cannot_be_handled() -> None:
    with pytest.raises(NotRunningError, match="No Application is open"):
        await HandleMessage(topic="a", payload=b"").handle()
