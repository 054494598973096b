# ruff: noqa: SLF001 - private names of aiomqtt and paho are what this file is about
"""One connection to the broker: aiomqtt below its message iterator.

Its iterator makes a task for each message, discards what exceeds its queue, and lets paho acknowledge
on arrival. Hence this subclass, which with the one in fast_connection.py is the only place that touches
private names of aiomqtt (2.5) and paho (2.2); a test fails when one of them is gone.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol, TypeVar

import aiomqtt
from paho.mqtt.client import Client as PahoClient
from paho.mqtt.client import ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from core.errors import MalformedPacketError
from core.mqtt.message import NO_PROPERTIES, IncomingMessage, MessageProperties, Subscription
from core.mqtt.options import MqttOptions

SESSION_TAKEN_OVER = 0x8E
_PROTOCOL_ERROR = 0x82
_KEEP_ALIVE_TIMEOUT = 0x8D
_PACKETS_PER_TURN = 64
"""Packets read before the other tasks of the loop get their turn."""

_numbers = count(1)

T = TypeVar("T")


class PahoSocket(Protocol):
    """A socket, or paho's wrapper around one that carries WebSocket frames."""

    def fileno(self) -> int: ...


class HasRoom(Protocol):
    def __call__(self, answer_awaited: bool) -> bool: ...


@dataclass(frozen=True, slots=True)
class Loss:
    """Why a connection ended."""

    reason: str
    code: int | None = None
    """The reason code of MQTT 5, where the broker gave one."""


class Connection(aiomqtt.Client):
    """Reads only while `has_room`; passes each PUBLISH to `receive`; leaves every PUBACK to `acknowledge`."""

    def __init__(
        self,
        options: MqttOptions,
        client_id: str,
        *,
        tls: ssl.SSLContext | None,
        receive: Callable[[IncomingMessage], None],
        has_room: HasRoom,
    ) -> None:
        super().__init__(
            options.host,
            options.port,
            identifier=client_id,
            username=options.username,
            password=options.password,
            transport=options.transport,
            websocket_path=options.websocket_path if options.transport == "websockets" else None,
            tls_context=tls,
            will=_will(options),
            timeout=options.answer_timeout,
            keepalive=options.keepalive,
            # PUBACKs are small and many: without this, Nagle's algorithm delays them.
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
            **_session(options),
        )
        self.number = next(_numbers)
        """Higher than that of every connection before."""
        self.session_present = False
        # How many publish at once is bounded by who calls: no warning beyond ten.
        self.pending_calls_threshold = sys.maxsize
        self._speaks_5 = options.protocol == "5"
        self._receive = receive
        self._has_room = has_room
        self._paused = False
        self._abandoned = False
        self._lost: asyncio.Future[Loss] = self._loop.create_future()
        self._farewell: Loss | None = None
        self._of_qos_2: set[int] = set()
        """Packet identifiers of messages that only a subscription of an older session can bring."""
        self._client.manual_ack_set(True)
        self._client.disable_logger()

    # ── What the client does with it ─────────────────────────────────────────────────────────────────

    async def open(self) -> None:
        """Connect and wait for CONNACK. Raises aiomqtt.MqttError; leaves nothing behind if it does."""
        try:
            await self.__aenter__()
        except BaseException:
            self.abandon()
            raise

    @property
    def is_open(self) -> bool:
        """Whether the broker has let us in: from CONNACK on, with which messages may come already."""
        connected = self._connected
        return connected.done() and not connected.cancelled() and connected.exception() is None

    async def subscribe_all(self, subscriptions: Sequence[Subscription]) -> list[ReasonCode]:
        """Send one SUBSCRIBE, and return a reason code for each subscription. Raises aiomqtt.MqttError."""
        if not subscriptions:
            return []
        wanted: Any = [(each.topic_filter, self._subscribe_options(each.qos)) for each in subscriptions]
        codes: Any = await self._answered(self.subscribe(wanted))
        return list(codes)

    async def send(
        self, topic: str, payload: bytes, qos: int, retain: bool, properties: MessageProperties | None
    ) -> None:
        """Publish; return once it is written (QoS 0) or answered. Raises aiomqtt.MqttError."""
        outgoing = outgoing_properties(properties) if properties and self._speaks_5 else None
        await self._answered(self.publish(topic, payload, qos, retain, outgoing))

    def acknowledge(self, mid: int) -> bool:
        """Send the PUBACK (for QoS 2, PUBCOMP), or see to it that it is sent; False if the connection is gone."""
        qos = 2 if mid in self._of_qos_2 else 1
        self._of_qos_2.discard(mid)
        return self._client.ack(mid, qos) == MQTTErrorCode.MQTT_ERR_SUCCESS

    def resume(self) -> None:
        """Read on, if reading was paused and there is room."""
        sock = self._client.socket()
        if self._paused and sock is not None and self._may_read():
            self._paused = False
            self._vouch_for_broker()
            self._loop.add_reader(sock.fileno(), self._read)
            # TLS may hold decrypted bytes for which the socket will never become readable.
            self._loop.call_soon(self._read)

    async def lost(self) -> Loss:
        """Wait until the connection is over."""
        return await asyncio.shield(self._lost)

    def renew(self, reason: str) -> None:
        """End the connection in good order, so that the next one makes the broker deliver again."""
        self._farewell = Loss(reason)
        self._say_goodbye()

    async def close(self, timeout: float) -> None:
        """Send what is queued, then DISCONNECT, in `timeout` seconds; the broker keeps the session."""
        if not self._lost.done():
            self._say_goodbye()
            await asyncio.wait([self._lost], timeout=timeout)
        self.abandon()

    def abandon(self) -> None:
        """Drop the socket, without a DISCONNECT."""
        self._abandoned = True
        self._client._sock_close()
        if self._misc_task is not None:
            self._misc_task.cancel()
        self._lose(Loss("we closed it"))

    def _say_goodbye(self) -> None:
        self._client.disconnect()

    # ── Reading ──────────────────────────────────────────────────────────────────────────────────────

    def _read(self) -> None:
        try:
            self._read_packets()
        except Exception as error:
            self._break(error)

    def _read_packets(self) -> None:
        for _ in range(_PACKETS_PER_TURN):
            sock = self._client.socket()
            if self._paused or sock is None:
                return None
            if not self._may_read():
                return self._pause(sock)
            code = self._client._packet_read()
            if code == MQTTErrorCode.MQTT_ERR_AGAIN:
                return self._read_rest_of_record()
            if code != MQTTErrorCode.MQTT_ERR_SUCCESS:
                self._client._loop_rc_handle(code)
                return None
        self._loop.call_soon(self._read)
        return None

    def _read_rest_of_record(self) -> None:
        pending = getattr(self._client.socket(), "pending", None)
        if pending and pending() > 0:
            self._loop.call_soon(self._read)

    def _pause(self, sock: PahoSocket) -> None:
        self._paused = True
        self._loop.remove_reader(sock.fileno())

    def _may_read(self) -> bool:
        # CONNACK comes first and takes up no room; handlers that hold all of it may be waiting for this connection.
        if not self._connected.done() or self._has_room(False):
            return True
        answer_awaited = next(self._pending_calls, None) is not None
        return answer_awaited and self._has_room(True)

    async def _answered(self, call: Awaitable[T]) -> T:
        """Await a call, which fails as soon as the connection does instead of when its time is over."""
        waiting = asyncio.ensure_future(call)
        # Its answer may stand behind messages for which there is no room: read on, once the call is pending.
        self._loop.call_soon(self.resume)
        try:
            ends: list[asyncio.Future[Any]] = [waiting, self._lost]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                raise aiomqtt.MqttError(f"the connection was lost: {self._lost.result().reason}")
            return waiting.result()
        finally:
            waiting.cancel()

    # ── What paho and aiomqtt call ───────────────────────────────────────────────────────────────────

    def _on_message(self, client: PahoClient, userdata: Any, message: MQTTMessage) -> None:
        if message.qos == 2:
            self._of_qos_2.add(message.mid)
        self._receive(_incoming(message, self.number))

    def _on_connect(
        self,
        client: PahoClient,
        userdata: Any,
        flags: ConnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        self.session_present = flags.session_present
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_disconnect(
        self,
        client: PahoClient,
        userdata: Any,
        flags: DisconnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        self._end(self._farewell or _loss(flags, reason_code))

    def _on_socket_open(self, client: PahoClient, userdata: Any, sock: PahoSocket) -> None:
        # Comes from the thread that connects.
        self._loop.call_soon_threadsafe(self._opened, sock)

    def _opened(self, sock: PahoSocket) -> None:
        if self._abandoned:
            # Whoever asked for this connection was cancelled while the thread was still at it.
            self._client._sock_close()
        elif self._client.socket() is sock:
            self._loop.add_reader(sock.fileno(), self._read)
            self._misc_task = self._loop.create_task(self._misc_loop(), name="mqtt keepalive")

    def _on_socket_register_write(self, client: PahoClient, userdata: Any, sock: PahoSocket) -> None:
        self._loop.call_soon_threadsafe(self._want_write, sock)

    def _want_write(self, sock: PahoSocket) -> None:
        # Closed in the meantime, its number may belong to another socket by now; and paho ends its wish
        # to write only once: with nothing left to write, the loop would find the socket writable for ever.
        if self._client.socket() is sock and self._client.want_write():
            try:
                self._loop.add_writer(sock.fileno(), self._write)
            except RuntimeError as error:  # uvloop has given the socket up: see _keep_alive
                self._break(error)

    def _write(self) -> None:
        try:
            self._client.loop_write()
        except Exception as error:
            self._break(error)

    def _break(self, error: Exception) -> None:
        """There is no going on with this stream: it is unreadable, or paho stopped in the middle of something."""
        is_malformed = isinstance(error, MalformedPacketError)
        self._end(Loss(f"the broker sent {error}" if is_malformed else f"the connection broke: {error!r}"))
        self._client._sock_close()

    def _end(self, loss: Loss) -> None:
        self._lose(loss)
        if not self._connected.done():
            # aiomqtt would wait for a CONNACK until its time is over.
            self._connected.set_exception(aiomqtt.MqttError(f"{loss.reason} before CONNACK"))

    async def _misc_loop(self) -> None:
        while self._keep_alive():  # noqa: ASYNC110 - paho asks to be called about once a second
            # A broker waits one and a half keepalives: a second is too coarse for the shortest of them.
            await asyncio.sleep(min(1.0, self._client.keepalive / 4))

    def _keep_alive(self) -> bool:
        # Where an error has come in behind bytes, uvloop calls once for both and gives the socket up: whoever has
        # read no more than the bytes is not told again.
        self._read()
        if self._paused:
            self._vouch_for_broker()
        try:
            return self._client.loop_misc() == MQTTErrorCode.MQTT_ERR_SUCCESS
        except Exception as error:
            self._break(error)
            return False

    def _vouch_for_broker(self) -> None:
        """Keep paho from taking the broker for dead while it is us who leave its PINGRESP unread."""
        self._client._ping_t = 0.0
        self._client._last_bytes_received = time.monotonic()

    def _lose(self, loss: Loss) -> None:
        if not self._lost.done():
            self._lost.set_result(loss)

    def _subscribe_options(self, qos: int) -> SubscribeOptions | int:
        return SubscribeOptions(qos=qos) if self._speaks_5 else qos


def _session(options: MqttOptions) -> dict[str, Any]:
    """A session that outlives connection and process (MQTT 5, section 3.1.2.11.2; 3.1.1, section 3.1.2.4)."""
    if options.protocol == "3.1.1":
        return {"protocol": aiomqtt.ProtocolVersion.V311, "clean_session": False}
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = options.session_expiry
    properties.ReceiveMaximum = options.max_in_flight
    return {"protocol": aiomqtt.ProtocolVersion.V5, "clean_start": False, "properties": properties}


def _will(options: MqttOptions) -> aiomqtt.Will | None:
    will = options.will
    return aiomqtt.Will(will.topic, will.payload, will.qos, will.retain) if will else None


def _loss(flags: DisconnectFlags, code: ReasonCode) -> Loss:
    if flags.is_disconnect_packet_from_server:
        return Loss(f"the broker ended the connection: {code}", code.value)
    if code.value == _PROTOCOL_ERROR:
        return Loss("the broker sent a packet that cannot be, or not there")
    if code.value == _KEEP_ALIVE_TIMEOUT:
        return Loss("the broker does not answer any more")
    return Loss("the connection broke off")


def _incoming(message: MQTTMessage, connection: int) -> IncomingMessage:
    return IncomingMessage(
        topic=message._topic.decode("utf-8", "backslashreplace"),
        payload=bytes(message.payload),
        qos=message.qos,
        retain=message.retain,
        duplicate=message.dup,
        properties=_message_properties(message.properties),
        mid=message.mid,
        connection=connection,
    )


def _message_properties(properties: Any) -> MessageProperties:
    if properties is None:
        return NO_PROPERTIES
    found = vars(properties)
    return MessageProperties(
        content_type=found.get("ContentType"),
        response_topic=found.get("ResponseTopic"),
        correlation_data=found.get("CorrelationData"),
        message_expiry=found.get("MessageExpiryInterval"),
        payload_is_text=bool(found.get("PayloadFormatIndicator")),
        user_properties=tuple(found.get("UserProperty", ())),
    )


def outgoing_properties(properties: MessageProperties) -> Properties:
    outgoing = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    fields = {
        "ContentType": properties.content_type,
        "ResponseTopic": properties.response_topic,
        "CorrelationData": properties.correlation_data,
        "MessageExpiryInterval": properties.message_expiry,
        "PayloadFormatIndicator": 1 if properties.payload_is_text else None,
        "UserProperty": list(properties.user_properties) or None,
    }
    for name, value in fields.items():
        if value is not None:
            setattr(outgoing, name, value)
    return outgoing
