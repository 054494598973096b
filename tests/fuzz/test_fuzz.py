"""A short form of `python -m tests.chaos.fuzz`, and that it finds what is wrong."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from core.handle_message import FailedMessages
from core.mqtt import frames
from core.mqtt.acknowledger import Acknowledger
from core.queue import envelope
from core.queue.drivers.memory import MemoryFailureStore
from core.routing.handling import MessageHandler
from tests.chaos.fuzz import Failed, run
from tests.fuzz.targets import TARGETS, shared_out

INPUTS = 20_000
SEED = "1"


@pytest.fixture(autouse=True)
def without_logs() -> Iterator[None]:
    """A record in the log of each input would take longer than all the rest."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", TARGETS)
def test_whatever_comes_in_is_answered(name: str) -> None:
    run(name, shared_out(INPUTS, list(TARGETS))[name], SEED)


def test_inputs_are_shared_out_to_the_last() -> None:
    assert sum(shared_out(1001, list(TARGETS)).values()) == 1001
    assert shared_out(7, ["messages"]) == {"messages": 7}


# ── what is broken is found ──────────────────────────────────────────────────────────────────────────


async def _nothing(*arguments: Any, **options: Any) -> None:
    """Instead of what should be done."""


def test_a_reader_that_loses_what_is_cut_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    packets = frames.FrameReader.packets

    def forgetful(self: frames.FrameReader, data: bytes) -> Any:
        self._kept.clear()
        return packets(self, data)

    monkeypatch.setattr(frames.FrameReader, "packets", forgetful)
    _is_found("frames")


def test_a_reader_that_refuses_a_property_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(frames._PROPERTIES, 0x03)
    _is_found("frames")


def test_a_message_that_leaves_no_record_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryFailureStore, "record", _nothing)
    _is_found("messages")


def test_a_record_that_lacks_something_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    record = FailedMessages.record

    async def without_payload(self: Any, message: Any, *arguments: Any) -> None:
        await record(self, msgspec.structs.replace(message, payload=message.payload[:3]), *arguments)

    monkeypatch.setattr(FailedMessages, "record", without_payload)
    _is_found("messages")


def test_an_envelope_that_crashes_a_worker_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envelope, "_UNREADABLE", (msgspec.MsgspecError,))
    _is_found("envelopes")


def test_a_message_that_is_acknowledged_too_often_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    settle = Acknowledger.settle

    def settle_twice(self: Acknowledger, arrival: Any, *, handled: bool) -> None:
        settle(self, arrival, handled=handled)
        self._send(arrival.mid)

    monkeypatch.setattr(Acknowledger, "settle", settle_twice)
    _is_found("connections")


def test_a_message_that_is_dropped_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MessageHandler, "handle", _nothing)
    _is_found("connections")


def _is_found(name: str) -> None:
    with pytest.raises(Failed, match=f"{name}, seed {SEED}, input"):
        run(name, 5000, SEED)
