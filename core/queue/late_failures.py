"""failed_jobs for a process that may never have a failed job: a worker on Redis, or who only dispatches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from core.queue.driver import FailureStore


class LateFailureStore:
    """Is the FailureStore that `make` makes once there is something to ask of it, and SQLAlchemy is loaded for it."""

    def __init__(self, make: Callable[[], FailureStore]) -> None:
        self._make = make
        self._made: FailureStore | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store(), name)

    def _store(self) -> FailureStore:
        """A method: were it a property, an AttributeError within `make` would lead back to __getattr__, for ever."""
        if self._made is None:
            self._made = self._make()
        return self._made
