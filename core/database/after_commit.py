"""Calls that wait for the commit of the caller's own transaction."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeAlias

from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction

_log = logging.getLogger("routemq.database")

Call: TypeAlias = Callable[[], object]


def after_commit(session: Session, call: Call, otherwise: Call | None = None) -> None:
    """Call this once the transaction that `session` is in is committed, and `otherwise` where it is rolled back.

    In a savepoint, that is once all is committed around it, unless it is rolled back itself.
    """
    waiting = session.info.get(_Waiting)
    if waiting is None:
        waiting = session.info[_Waiting] = _Waiting(session)
    waiting.add(session, call, otherwise)


class _Waiting:
    """The calls of one session, each with the transaction or savepoint on which its fate depends."""

    def __init__(self, session: Session) -> None:
        self._calls: list[tuple[SessionTransaction | None, Call, Call | None]] = []
        event.listen(session, "after_commit", self._committed)
        event.listen(session, "after_transaction_end", self._ended)

    def add(self, session: Session, call: Call, otherwise: Call | None) -> None:
        self._calls.append((session.get_nested_transaction() or session.get_transaction(), call, otherwise))

    def _committed(self, session: Session) -> None:
        savepoint = session.get_nested_transaction()
        if savepoint is not None:  # which is released: what is around it decides from now on
            self._calls = [
                (savepoint.parent if each is savepoint else each, call, otherwise)
                for each, call, otherwise in self._calls
            ]
            return
        calls, self._calls = self._calls, []
        for _, call, _ in calls:
            _make(call)

    def _ended(self, _: Session, transaction: SessionTransaction) -> None:
        """What is left of it by now was rolled back."""
        ended = [otherwise for each, _, otherwise in self._calls if each is transaction]
        self._calls = [each for each in self._calls if each[0] is not transaction]
        for otherwise in ended:
            if otherwise:
                _make(otherwise)


def _make(call: Call) -> None:
    try:
        call()
    except Exception:
        _log.exception("what was to follow the end of a transaction has failed; its outcome stands")
