"""The life of our connection to the broker: connect, subscribe, receive, and come back for ever."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import aiomqtt
from paho.mqtt.reasoncodes import ReasonCode

from core.clock import Backoff, Clock, SystemClock
from core.errors import BrokerRefusedError, BrokerUnavailableError, SettingError
from core.mqtt.acknowledger import Acknowledger
from core.mqtt.connection import SESSION_TAKEN_OVER, Connection, Loss
from core.mqtt.fast_connection import FastConnection, obstacle
from core.mqtt.intake import Intake
from core.mqtt.message import IncomingMessage, MessageProperties, Subscription
from core.mqtt.options import MqttOptions
from core.mqtt.topic import reduced
from core.observability.events import (
    BrokerConnected,
    BrokerLost,
    Events,
    MessageReceived,
    SubscriptionRefused,
)
from core.tasks import unless

_log = logging.getLogger("routemq.mqtt")

_Refused = tuple[Subscription, ReasonCode]

_SHORT_LIFE = 5.0  # seconds; a connection that ends sooner, time and again, is being taken away from us
_SHORT_LIVES = 3
_DISCONNECT_TIMEOUT = 2.0  # seconds

_GRANTED_LESS = "MQTT broker at %s grants only QoS 0 for %s: messages may be lost; see its configuration"

_NOT_FAST = "receiving by way of paho, which is slower: %s; install the versions in requirements.lock"

_REMEDIES = {
    0x84: "Set MQTT_PROTOCOL=3.1.1, or use a broker that speaks MQTT 5.",
    0x85: "Change MQTT_CLIENT_ID to one that the broker accepts.",
    0x86: "Correct MQTT_USERNAME and MQTT_PASSWORD.",
    0x87: "Correct MQTT_USERNAME and MQTT_PASSWORD, or allow this client in the broker's access list.",
    0x8A: "Have this client admitted in the broker's configuration.",
    0x8C: "Use a broker that takes user name and password, or a client certificate.",
    0x90: "Correct MQTT_WILL_TOPIC.",
    0x9A: "Set MQTT_WILL_RETAIN=false.",
    0x9B: "Lower MQTT_WILL_QOS.",
}
"""Refusals (MQTT 5, table 3-1) that no waiting will change, and what to do about each."""


class MqttClient:
    """Receives what `subscriptions` ask for and passes each message to `handle`.

    When `handle` returns, the message may be acknowledged, and is as soon as all earlier ones are. When it
    raises, neither that message nor a later one is acknowledged on this connection; once the earlier ones
    are, the connection is renewed, so that the broker delivers the rest again.
    """

    def __init__(
        self,
        options: MqttOptions,
        *,
        client_id: str,
        subscriptions: Sequence[Subscription],
        handle: Callable[[IncomingMessage], Coroutine[Any, Any, None]],
        events: Events,
        clock: Clock | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        self._options = options
        self._client_id = client_id
        self._subscriptions = reduced(subscriptions)
        self._events = events
        self._clock = clock or SystemClock()
        self._backoff = backoff or Backoff(options.reconnect_min, options.reconnect_max)
        self._intake = Intake(
            handle,
            max_messages=options.max_in_flight,
            max_bytes=options.max_in_flight_bytes,
            on_room=self._resume,
        )
        self._connection_type = _connection_type(options)
        self._connection: Connection | None = None  # being opened, or open
        self._acknowledger: Acknowledger | None = None
        self._start_over = asyncio.Event()  # connected for the first time, refused, or stopped before
        self._quiet = asyncio.Event()
        self._was_connected = False
        self._connected_at: float | None = None
        self._refusal: BrokerRefusedError | SettingError | None = None
        self._trouble = "no answer yet"
        self._short_lives = 0
        self.is_connected = False
        """Connected and subscribed."""

    async def run(self) -> None:
        """Stay connected until `stop()`.

        Raises BrokerRefusedError (or SettingError, for TLS files) if that is the answer to the first
        connection; once there was one, every trouble is reported and tried again.
        """
        try:
            while not self._quiet.is_set():
                await self._live_once()
        except (BrokerRefusedError, SettingError) as error:
            self._refusal = error
            raise
        finally:
            self._start_over.set()

    async def connected(self, timeout: float | None = None) -> None:
        """Wait until `run()` has connected and subscribed for the first time.

        Raises BrokerUnavailableError after `timeout` seconds, and at once what `run()` raises.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._start_over.wait()
        except TimeoutError:
            raise self._unavailable(f"{self._trouble}; gave up after {timeout:g} s") from None
        if self._refusal:
            raise self._refusal
        if not self._was_connected:
            raise self._unavailable("stopped before there was a connection")

    def quiet(self) -> None:
        """Start no more handlers, and do not connect again."""
        self._intake.quiet()
        self._quiet.set()

    async def stop(self, grace: float) -> None:
        """Let running handlers end within `grace` seconds, acknowledge what is done, and disconnect.

        The session stays with the broker, and with it whatever is not acknowledged.
        """
        self.quiet()
        await self._intake.drain(grace)
        if self._connection:
            await self._connection.close(_DISCONNECT_TIMEOUT)

    async def publish(
        self,
        topic: str,
        payload: bytes | str,
        *,
        qos: int = 0,
        retain: bool = False,
        properties: MessageProperties | None = None,
    ) -> None:
        """Return once the message is written (QoS 0) or the broker has it (QoS 1 and 2).

        Raises BrokerUnavailableError where there is no connection, or it is lost before the broker answered:
        then the message may or may not have been published. MQTT 3.1.1 carries no properties.
        """
        if self._connection is None or not self._connection.is_open:
            raise self._unavailable(f"cannot publish to {topic}")
        data = payload.encode() if isinstance(payload, str) else payload
        try:
            await self._connection.send(topic, data, qos, retain, properties)
        except aiomqtt.MqttError as error:
            raise self._unavailable(f"publishing to {topic} failed: {error}") from error

    # ── One connection after the other ───────────────────────────────────────────────────────────────

    async def _live_once(self) -> None:
        loss = await self._connect_and_receive()
        if self._quiet.is_set():
            return
        if self._lifetime() > self._options.reconnect_max:
            # Only now: while two processes fight over one client id, each connects without trouble.
            self._backoff.reset()
        delay = self._backoff.next()
        self._report(loss, delay)
        await unless(self._quiet, self._clock.sleep(delay))

    async def _connect_and_receive(self) -> Loss:
        self._connected_at = None
        try:
            if not await unless(self._quiet, self._open()) or self._connection is None:
                return Loss("stopped")
            return await self._connection.lost()
        except (aiomqtt.MqttError, SettingError, ValueError) as error:
            return self._judge(error)
        finally:
            self._leave()

    async def _open(self) -> None:
        connection = self._connection = await self._new_connection()
        self._acknowledger = self._acknowledge_on(connection)
        await connection.open()
        await self._begin(connection)

    def _leave(self) -> None:
        self.is_connected = False
        acknowledger, self._acknowledger = self._acknowledger, None
        connection, self._connection = self._connection, None
        if acknowledger:
            acknowledger.close()
        if connection:
            connection.abandon()

    async def _new_connection(self) -> Connection:
        tls = self._options.tls
        return self._connection_type(
            self._options,
            self._client_id,
            tls=await asyncio.to_thread(tls.context) if tls else None,
            receive=self._receive,
            has_room=self._intake.has_room,
        )

    def _acknowledge_on(self, connection: Connection) -> Acknowledger:
        """Before CONNACK, since a session's messages may come with it."""
        acknowledger = Acknowledger(connection.acknowledge, give_up=lambda: self._give_up(connection))
        self._intake.follow(acknowledger)
        return acknowledger

    async def _begin(self, connection: Connection) -> None:
        refused = await self._subscribe(connection)
        if refused and not self._was_connected:
            await connection.close(_DISCONNECT_TIMEOUT)
            raise self._refused_at_start(refused)
        self._was_connected = self.is_connected = True
        self._connected_at = self._clock.monotonic()
        self._events.emit(
            BrokerConnected(
                self._options.address,
                self._client_id,
                connection.session_present,
                len(self._subscriptions) - len(refused),
            )
        )
        self._start_over.set()

    async def _subscribe(self, connection: Connection) -> list[_Refused]:
        codes = await connection.subscribe_all(self._subscriptions)
        refused: list[_Refused] = []
        for subscription, code in zip(self._subscriptions, codes, strict=True):
            if code.is_failure:
                refused.append((subscription, code))
                self._events.emit(SubscriptionRefused(subscription.topic_filter, str(code)))
            elif code.value < subscription.qos:
                _log.warning(_GRANTED_LESS, self._options.address, subscription.topic_filter)
        return refused

    # ── Messages ─────────────────────────────────────────────────────────────────────────────────────

    def _receive(self, message: IncomingMessage) -> None:
        if self._events.wanted(MessageReceived):
            self._events.emit(MessageReceived(message.topic, len(message.payload)))
        self._intake.take(message)

    def _resume(self) -> None:
        if self._connection:
            self._connection.resume()

    def _give_up(self, connection: Connection) -> None:
        if not self._quiet.is_set():
            connection.renew("a message could not be handled; the broker is to deliver it again")

    # ── Trouble ──────────────────────────────────────────────────────────────────────────────────────

    def _judge(self, error: Exception) -> Loss:
        """What a failed connection means: refused at the start, the end; later, a loss like any other."""
        if self._was_connected:
            return Loss(str(error))
        if isinstance(error, SettingError):
            raise error
        code = _reason_code(error)
        if code in _REMEDIES:
            raise self._refused(str(error), _REMEDIES[code]) from error
        return Loss(str(error))

    def _refused(self, reason: str, remedy: str) -> BrokerRefusedError:
        return BrokerRefusedError(
            f"The MQTT broker at {self._options.address} refused client {self._client_id!r}, "
            f"user {self._options.username!r}: {reason}. {remedy}"
        )

    def _refused_at_start(self, refused: Sequence[_Refused]) -> BrokerRefusedError:
        reasons = ", ".join(f"subscription {each.topic_filter!r}: {reason}" for each, reason in refused)
        return self._refused(reasons, "Allow these topics to this user in the broker's access list.")

    def _unavailable(self, what: str) -> BrokerUnavailableError:
        return BrokerUnavailableError(
            f"The MQTT broker at {self._options.address} is not available: {what}. "
            f"Start it, or correct {self._settings_of_place()}."
        )

    def _settings_of_place(self) -> str:
        """What says where and how it is reached: a port knows one way alone."""
        tls = ", MQTT_TLS_ENABLED=true" if self._options.tls else ""
        transport = ", MQTT_TRANSPORT=websockets" if self._options.transport == "websockets" else ""
        return f"MQTT_BROKER, MQTT_PORT{tls}{transport}" if tls or transport else "MQTT_BROKER and MQTT_PORT"

    def _report(self, loss: Loss, delay: float) -> None:
        self._trouble, address = loss.reason, self._options.address
        if not self._was_connected:
            _log.warning("waiting for MQTT broker at %s: %s; next try in %.1f s", address, loss.reason, delay)
            return
        self._events.emit(BrokerLost(address, self._client_id, loss.reason, delay))
        if self._is_contested(loss):
            _log.error(
                "client id %r %s in use by another process at %s, which takes our connection away; "
                "give each router an MQTT_CLIENT_ID of its own",
                self._client_id,
                "is" if loss.code == SESSION_TAKEN_OVER else "may be",
                address,
            )

    def _is_contested(self, loss: Loss) -> bool:
        """MQTT 5 says so; on 3.1.1 a broker merely drops the older connection, time and again."""
        is_short = self._connected_at is not None and self._lifetime() < _SHORT_LIFE
        self._short_lives = self._short_lives + 1 if is_short else 0
        return loss.code == SESSION_TAKEN_OVER or self._short_lives >= _SHORT_LIVES

    def _lifetime(self) -> float:
        """Seconds for which the last connection was one; 0 if it never was."""
        return 0.0 if self._connected_at is None else self._clock.monotonic() - self._connected_at


def _connection_type(options: MqttOptions) -> type[Connection]:
    if options.receive == "stock" or options.transport == "websockets":
        return Connection
    in_the_way = obstacle()
    if in_the_way:
        _log.warning(_NOT_FAST, in_the_way)
        return Connection
    return FastConnection


def _reason_code(error: Exception) -> int | None:
    reason = getattr(error, "rc", None)
    return reason.value if isinstance(reason, ReasonCode) else None
