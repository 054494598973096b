"""failed_jobs for a process that may never have a failed job: a worker on Redis, or who only dispatches."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from core.queue.driver import FailureStore


class LateFailureStore:
    """Is the FailureStore that `make` makes once there is something to ask of it, and SQLAlchemy is loaded for it."""

    def __init__(self, make: Callable[[], FailureStore]) -> None:
        self._make = make

    @cached_property
    def _store(self) -> FailureStore:
        return self._make()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)
