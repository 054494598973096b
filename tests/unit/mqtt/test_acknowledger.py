from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from core.mqtt.acknowledger import Acknowledger


class Wire:
    def __init__(self) -> None:
        self.sent: list[int] = []
        self.is_open = True
        self.given_up = 0
        self.acknowledger = Acknowledger(self.send, self.give_up)

    def send(self, mid: int) -> bool:
        if self.is_open:
            self.sent.append(mid)
        return self.is_open

    def give_up(self) -> None:
        self.given_up += 1


@given(st.permutations(range(1, 20)))
def test_pitfall_02_pubacks_go_out_in_order_of_arrival_whatever_ends_first(ending: list[int]) -> None:
    wire = Wire()
    arrivals = {mid: wire.acknowledger.arrived(mid) for mid in range(1, 20)}
    for mid in ending:
        wire.acknowledger.settle(arrivals[mid], handled=True)
        assert wire.sent == list(range(1, len(wire.sent) + 1))
    assert wire.sent == list(range(1, 20))
    assert wire.acknowledger.held_back == 0


def test_what_is_done_behind_an_unfinished_message_is_held_back_and_counted() -> None:
    wire = Wire()
    first, second = wire.acknowledger.arrived(1), wire.acknowledger.arrived(2)
    wire.acknowledger.settle(second, handled=True)
    assert (wire.sent, wire.acknowledger.held_back) == ([], 1)
    wire.acknowledger.settle(first, handled=True)
    assert (wire.sent, wire.acknowledger.held_back) == ([1, 2], 0)


def test_an_unhandled_message_ends_acknowledging_once_all_before_it_are_acknowledged() -> None:
    wire = Wire()
    arrivals = [wire.acknowledger.arrived(mid) for mid in (1, 2, 3)]
    wire.acknowledger.settle(arrivals[1], handled=False)
    assert wire.given_up == 0
    wire.acknowledger.settle(arrivals[0], handled=True)
    wire.acknowledger.settle(arrivals[2], handled=True)
    assert (wire.sent, wire.given_up) == ([1], 1)


def test_pitfall_01_a_packet_identifier_of_an_earlier_connection_is_never_acknowledged() -> None:
    earlier, later = Wire(), Wire()
    stale = earlier.acknowledger.arrived(7)
    earlier.acknowledger.close()
    later.acknowledger.arrived(7)
    earlier.acknowledger.settle(stale, handled=True)
    assert earlier.sent == later.sent == []


def test_a_puback_that_cannot_be_sent_is_the_last_one_tried() -> None:
    wire = Wire()
    arrivals = [wire.acknowledger.arrived(mid) for mid in (1, 2)]
    wire.is_open = False
    wire.acknowledger.settle(arrivals[0], handled=True)
    wire.is_open = True
    wire.acknowledger.settle(arrivals[1], handled=True)
    assert wire.sent == []


def test_a_thousand_messages_in_random_order_are_acknowledged_once_each() -> None:
    wire = Wire()
    arrivals = [wire.acknowledger.arrived(mid) for mid in range(1000)]
    random.shuffle(arrivals)
    for arrival in arrivals:
        wire.acknowledger.settle(arrival, handled=True)
    assert wire.sent == list(range(1000))
