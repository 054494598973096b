"""The Lua scripts of the Redis driver, and the keys that they work on.

The keys of a queue carry the hash tag `{queue}`, so that they live on one slot. What each script takes,
does and returns stands at its head, in lua/.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from functools import cache
from hashlib import sha1
from pathlib import Path
from typing import Any, Protocol, Self

from redis.exceptions import NoScriptError

from core.errors import QueueUnavailableError
from core.queue.drivers.pipelined_connection import Command, PipelinedConnection
from core.redis_client import FAULTS, RedisClient, raise_explained


class Connection(Protocol):
    """Over which scripts are asked for: see PipelinedConnection."""

    async def ask(self, *command: str | bytes | int) -> Any: ...
    async def ask_all(self, *commands: Command) -> list[Any]: ...
    async def masters(self) -> list[PipelinedConnection]: ...


_WITH_TURNS = frozenset({"clear", "complete", "fail", "lost_turns", "push_keyed", "put_back"})
"""The scripts that begin with turns.lua."""


class Scripts:
    def __init__(self, client: RedisClient, connection: Connection, prefix: str) -> None:
        """`prefix` is what every key begins with."""
        self._client = client
        self._prefix = prefix
        self._filled: set[str] = set()
        self._texts = _texts()
        self._digests = {name: _digest(text) for name, text in self._texts.items()}
        self._connection = connection

    def over(self, connection: Connection) -> Self:
        """The same scripts over another connection."""
        scripts = copy(self)
        scripts._connection = connection  # noqa: SLF001  it is one of us
        return scripts

    async def run(self, script: str, queue: str, keys: Sequence[str], *args: Any) -> Any:
        """Run a script on these keys of a queue. Raises QueueUnavailableError where Redis gives no answer."""
        try:
            return await self._run(script, self._keys(queue, keys), args)
        except FAULTS as error:
            raise_explained(error, self._client, QueueUnavailableError)

    async def _run(self, script: str, named: Sequence[str], args: Sequence[Any]) -> Any:
        try:
            return await self._connection.ask("EVALSHA", self._digests[script], len(named), *named, *args)
        except NoScriptError:  # a new server, or one whose scripts were flushed; from now on it knows this one
            return await self._connection.ask("EVAL", self._texts[script], len(named), *named, *args)

    async def run_on_known(self, script: str, queue: str, keys: Sequence[str], *args: Any) -> list[Any]:
        """The same for a script that fills a queue, and returns first whether that held no job before; its name is
        entered into `names`. Returns the rest.

        Beside the script and not in it, since `names` lies on another slot. Not where the queue held jobs already:
        their name is there. A server that lost its data has lost the name with the jobs.
        """
        rest: list[Any]
        if queue not in self._filled:
            was_empty, *rest = await self._run_and_enter(script, queue, keys, *args)
        else:
            was_empty, *rest = await self.run(script, queue, keys, *args)
            if was_empty:
                await self._enter(queue)
        (self._filled.discard if was_empty else self._filled.add)(queue)
        return rest

    async def _run_and_enter(self, script: str, queue: str, keys: Sequence[str], *args: Any) -> Any:
        named = self._keys(queue, keys)
        try:
            entered, reply = await self._connection.ask_all(
                ("SADD", self.names, queue), ("EVALSHA", self._digests[script], len(named), *named, *args)
            )
            if isinstance(reply, NoScriptError):
                reply = await self._run(script, named, args)
            for each in (entered, reply):
                if isinstance(each, Exception):
                    raise each
        except FAULTS as error:
            raise_explained(error, self._client, QueueUnavailableError)
        return reply

    async def _enter(self, queue: str) -> None:
        await self.ask("SADD", self.names, queue)

    async def ping(self) -> None:
        """Reach every server that takes writes. Raises as `run`."""
        try:
            for each in await self._connection.masters():
                await each.ask("PING")
        except FAULTS as error:
            raise_explained(error, self._client, QueueUnavailableError)

    async def ask(self, *command: str | bytes | int) -> Any:
        """The reply to a command that needs no script: its name, and the key on which it works. Raises as `run`."""
        try:
            return await self._connection.ask(*command)
        except FAULTS as error:
            raise_explained(error, self._client, QueueUnavailableError)

    @property
    def names(self) -> str:
        """The key of the set that holds the names of all queues."""
        return self._prefix + "queues"

    def key(self, queue: str, name: str) -> str:
        # A brace in the name would end the hash tag early; at its beginning, there would be none.
        tag = queue.replace("%", "%25").replace("}", "%7D")
        return f"{self._prefix}{{{tag}}}:{name}"

    def _keys(self, queue: str, names: Sequence[str]) -> list[str]:
        beginning = self.key(queue, "")
        return [beginning + name for name in names]

    def channel(self, queue: str) -> str:
        """Where idle workers hear of pushes."""
        return self.key(queue, "wake")


@cache
def _texts() -> dict[str, str]:
    texts = {path.stem: path.read_text(encoding="utf-8") for path in (Path(__file__).parent / "lua").glob("*.lua")}
    turns = texts.pop("turns")
    return {name: turns + text if name in _WITH_TURNS else text for name, text in texts.items()}


def _digest(text: str) -> str:
    """What EVALSHA calls a script."""
    return sha1(text.encode(), usedforsecurity=False).hexdigest()
