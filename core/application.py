"""The composition root: builds the parts from the settings, owns their lifetime, and alone picks a driver."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import cached_property, partial
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeAlias, cast

from core import handle_message
from core.clock import Backoff
from core.errors import UnavailableError
from core.observability.events import Events
from core.queue.driver import Driver, FailureStore
from core.queue.queue_manager import DispatchOptions, QueueManager
from core.redis_manager import redis_manager
from core.settings import Settings, load_settings

if TYPE_CHECKING:
    from core.database.engine import Database
    from core.handle_message import FailedMessages
    from core.mqtt.client import MqttClient
    from core.mqtt.message import IncomingMessage, Subscription
    from core.queue.drivers.durability import Durability
    from core.queue.registry import JobRegistry
    from core.queue.worker.options import WorkerOptions
    from core.queue.worker.process_wire import Setup
    from core.queue.worker.worker import Worker
    from core.redis_client import RedisClient
    from core.routing.handling import MessageHandler
    from core.routing.table import RouteTable

_log = logging.getLogger("routemq")


class Application:
    """Everything of RouteMQ in one process, connected lazily.

        async with Application() as app:
            await dispatch(SendEmail(to="a@example.com"))

    Without `settings`, they are read from the environment and `.env`. Parts are made when they are first
    asked for, so that a script that only dispatches imports no router and opens no MQTT connection.
    """

    def __init__(self, settings: Settings | None = None, *, events: Events | None = None) -> None:
        self.settings = settings or load_settings()
        self.events = events or Events()
        self._closing = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opened:  # a part that cannot be opened leaves none of the others open
            await self._open(opened)
            self._closing = opened.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._closing.aclose()

    async def _open(self, opened: AsyncExitStack) -> None:
        """Open the parts; `opened` closes them in the other direction, each whatever the closing of another raises."""
        from core.database.bound import bind, unbind

        opened.push_async_callback(self.database.close)
        bind(self.database)
        opened.callback(unbind, self.database)
        redis, prefix = self._text_redis, self.settings.redis.prefix
        if redis is not None:
            opened.push_async_callback(redis.aclose)
        redis_manager.bind(redis, prefix)
        opened.callback(redis_manager.unbind, redis, prefix)
        handle_message.bind(self._run_recorded_message)
        opened.callback(handle_message.unbind, self._run_recorded_message)
        opened.callback(self._controller_threads.shutdown, wait=False, cancel_futures=True)
        opened.push_async_callback(self.queues.close)
        await self.queues.open()

    # ── stores ───────────────────────────────────────────────────────────────────────────────────────

    @cached_property
    def database(self) -> Database:
        return self._new_database(self.settings.database.pool_size)

    def _new_database(self, pool_size: int) -> Database:
        from core.database.engine import Database

        options = self.settings.database
        return Database(
            options.url,
            pool_size=pool_size,
            pool_timeout=options.pool_timeout,
            answer_timeout=options.answer_timeout,
            sqlite_synchronous=options.sqlite_synchronous,
        )

    @cached_property
    def failures(self) -> FailureStore:
        """failed_jobs; with the queues in memory, as in tests, it is there as well."""
        if self.settings.queue.connection == "memory":
            return self.queues.driver().failures
        from core.queue.late_failures import LateFailureStore

        return cast("FailureStore", LateFailureStore(self._database_failures))

    def _database_failures(self) -> FailureStore:
        from core.queue.failures import DatabaseFailureStore

        return DatabaseFailureStore(self.database)

    def store_name(self, connection: str | None = None) -> str:
        """What holds the queues of a connection (default: QUEUE_CONNECTION), and where, without passwords."""
        name = connection or self.settings.queue.connection
        if name == "redis":
            return f"redis at {self.settings.redis.address()}"
        return f"the database {self.database.address}" if name == "database" else name

    @cached_property
    def queues(self) -> QueueManager:
        options = self.settings.queue
        return QueueManager(
            {"database": self._database_driver, "redis": self._redis_driver, "memory": self._memory_driver},
            DispatchOptions(options.connection, options.default, options.max_payload, options.max_pending),
            database=self.database.url,
            events=self.events,
        )

    def _database_driver(self) -> Driver:
        from core.queue.drivers.database import DatabaseDriver

        return DatabaseDriver(self.database, self.events)

    def _redis_driver(self) -> Driver:
        from core.queue.drivers.durability import read_durability

        return self._new_redis_driver(read_durability(self.settings.queue.redis_durability))

    def _new_redis_driver(self, durability: Durability | None) -> Driver:
        from core.queue.drivers.redis import RedisDriver

        return RedisDriver(self._new_redis(), self.failures, prefix=self.settings.redis.prefix, durability=durability)

    @property
    def _single_drivers(self) -> Mapping[str, Callable[[], Driver]]:
        """Makers of drivers with one connection of their own, for another thread's event loop. They fill no queue."""
        return {"database": self._single_database_driver, "redis": partial(self._new_redis_driver, None)}

    def _single_database_driver(self) -> Driver:
        from core.queue.drivers.database import DatabaseDriver

        return DatabaseDriver(self._new_database(1), Events())

    def _memory_driver(self) -> Driver:
        from core.queue.drivers.memory import MemoryDriver

        return MemoryDriver()

    @cached_property
    def _text_redis(self) -> RedisClient | None:
        """What redis_manager speaks to: values are text there."""
        if self.settings.redis.is_configured or self.settings.queue.connection == "redis":
            return self._new_redis(decode_responses=True)
        return None

    def _new_redis(self, **options: bool) -> RedisClient:
        from core.redis_client import new_redis

        return new_redis(self.settings.redis, **options)

    # ── the app's own code ───────────────────────────────────────────────────────────────────────────

    @cached_property
    def jobs(self) -> JobRegistry:
        """The job classes of the app's `jobs/`, and the framework's own."""
        from core.discovery import find_classes
        from core.job import Job
        from core.queue.registry import JobRegistry

        found = find_classes(self.settings.app.package, "jobs", Job)
        return JobRegistry([*found, handle_message.HandleMessage])

    @cached_property
    def routes(self) -> RouteTable:
        """The routes of the app's `routers/`. Raises RouteError for those that cannot be."""
        from core.discovery import find_objects
        from core.router import Router
        from core.routing.table import RouteTable

        found = find_objects(self.settings.app.package, "routers", "router", Router)
        return RouteTable(found, self.settings.mqtt.group_name, threads=self._controller_threads)

    @cached_property
    def _controller_threads(self) -> ThreadPoolExecutor:
        """Of their own: in the event loop's, they would keep the client from connecting, which needs one as well."""
        return ThreadPoolExecutor(self.settings.mqtt.handler_threads, thread_name_prefix="controller")

    # ── roles ────────────────────────────────────────────────────────────────────────────────────────

    def worker(
        self,
        options: WorkerOptions,
        *,
        connection: str | None = None,
        max_tries: int | None = None,
        timeout: float | None = None,
    ) -> Worker:
        """A worker of a connection (default: QUEUE_CONNECTION); `max_tries` and `timeout` win over the jobs' own.

        Raises SettingError for a job class that cannot be run.
        """
        from core.queue.worker.executor import Executor
        from core.queue.worker.limits import LimitRules, Limits
        from core.queue.worker.process_pool import ProcessPool
        from core.queue.worker.worker import Worker

        self.jobs.require_runnable()
        queue = self.settings.queue
        rules = LimitRules(Limits(queue.max_tries, queue.retry_after, queue.timeout), max_tries, timeout)
        processes = ProcessPool(queue.processes or _cores(), queue.process_max_jobs, self._process_setup)
        executor = Executor(self.jobs, rules, processes=processes, threads=queue.threads, events=self.events)
        driver = self.queues.driver(connection)
        return Worker(driver, executor, options, self.events, open_driver=self._single_drivers.get(driver.connection))

    def _process_setup(self) -> Setup:
        from core.queue.worker.process_wire import Setup

        return Setup(pickle.dumps(self.settings))

    def mqtt_client(self, process: int | None = None) -> MqttClient:
        """The main router's client, or that of the shared-subscription process with this number (from 1)."""
        name = self.settings.mqtt.client_id if process is None else f"{self.settings.mqtt.client_id}-{process}"
        handler = self.message_handler(shared=process is not None)
        return self._mqtt_client(name, self.routes.subscriptions(process), handler)

    def mqtt_client_of_all_routes(self) -> MqttClient:
        """The client of a router that is one process: routes with `shared=True` are subscribed to like the others."""
        return self._mqtt_client(self.settings.mqtt.client_id, self.routes.all_subscriptions(), self.message_handler())

    def _mqtt_client(self, client_id: str, subscriptions: list[Subscription], handler: MessageHandler) -> MqttClient:
        from core.mqtt.client import MqttClient

        client = MqttClient(
            self.settings.mqtt.options(),
            client_id=client_id,
            subscriptions=subscriptions,
            handle=handler.handle,
            events=self.events,
        )
        handler.publisher = client
        return client

    def message_handler(self, *, shared: bool | None = None) -> MessageHandler:
        """What runs messages through their routes; those of the shared, the other, or (None) all of them."""
        from core.routing.handling import MessageHandler

        return MessageHandler(
            self.routes,
            events=self.events,
            record_failure=self._failed_messages.record,
            tries=self.settings.mqtt.handler_tries,
            shared=shared,
        )

    @cached_property
    def _failed_messages(self) -> FailedMessages:
        """They go to QUEUE_DEFAULT, not always to `default`, which a worker without --queue may not serve."""
        queue = self.settings.queue
        return handle_message.FailedMessages(self.queues.driver().failures, queue.connection, queue.default)

    @cached_property
    def _recorded_message_handler(self) -> MessageHandler:
        from core.mqtt.publisher import OneShotPublisher

        handler = self.message_handler()
        handler.publisher = OneShotPublisher(self.settings.mqtt.options())
        return handler

    async def _run_recorded_message(self, message: IncomingMessage) -> None:
        await self._recorded_message_handler.run_once(message)

    # ── at start ─────────────────────────────────────────────────────────────────────────────────────

    async def wait_until_ready(self, timeout: float | None = None, *, connection: str | None = None) -> None:
        """Wait for the stores, and see that the database is up to date.

        Raises UnavailableError with the address of what is missing after `timeout` seconds (default:
        APP_START_TIMEOUT), and SchemaOutdatedError where migrations are.
        """
        from core.database.migrations import looks_current, require_current

        driver = self.queues.driver(connection)
        pings = {f"The {driver.connection} queue": driver.ping}
        if driver.connection != "database" and await looks_current(self.database.url):
            await _reach(pings, self._start_timeout(timeout))
        else:
            await _reach({**self._database_ping, **pings}, self._start_timeout(timeout))
            await require_current(self.database)

    async def wait_for_database(self, timeout: float | None = None) -> None:
        """Wait for the database alone, whatever its tables. Raises UnavailableError as above."""
        await _reach(self._database_ping, self._start_timeout(timeout))

    @property
    def _database_ping(self) -> Mapping[str, _Ping]:
        return {f"The database {self.database.address}": self.database.ping}

    def _start_timeout(self, timeout: float | None) -> float:
        return self.settings.app.start_timeout if timeout is None else timeout


_Ping: TypeAlias = Callable[[], Awaitable[object]]

_ANSWER_IN = 1.0
"""Seconds that a server gets at least: told not to wait for it at all, we still need its answer."""


async def _reach(pings: Mapping[str, _Ping], timeout: float) -> None:
    """Wait for servers, each under what it is called, for `timeout` seconds all in all."""
    clock = asyncio.get_running_loop().time
    give_up_at = clock() + timeout
    backoff = Backoff(0.1, 2.0)
    for name, ping in pings.items():
        while (error := await _failure_of(name, ping, max(give_up_at - clock(), _ANSWER_IN))) is not None:
            delay = backoff.next()
            if clock() + delay > give_up_at:
                raise type(error)(f"{error} Gave up after {timeout:g} s.") from error
            _log.warning("waiting: %s", error)
            await asyncio.sleep(delay)


async def _failure_of(name: str, ping: _Ping, seconds: float) -> UnavailableError | None:
    try:
        async with asyncio.timeout(seconds):
            await ping()
    except UnavailableError as error:
        return error
    except TimeoutError:
        return UnavailableError(f"{name} gave no answer within {seconds:.1f} s. Start it, or correct its address.")
    return None


def _cores() -> int:
    """Those that this process may use, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
