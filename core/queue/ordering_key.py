"""Ordering keys: what the class of a job says about its own, and what can serve as one."""

from __future__ import annotations

import unicodedata
from enum import Enum
from typing import Any
from uuid import UUID

from core.errors import DispatchError
from core.job import Job, job_name

LONGEST = 255
"""Characters, as many as every store can hold."""


def own_ordering_key(job: Job) -> str | None:
    """The key that the class of a job gives it. Raises DispatchError where that cannot serve as one."""
    key: Any = type(job).ordering_key
    if key is None:
        return None
    try:
        value = getattr(job, key) if isinstance(key, str) else job.ordering_key()
    except Exception as error:
        raise _refusal(job, f"cannot be read: {error!r}") from error
    try:
        return None if value is None else key_text(value)
    except ValueError as error:
        raise _refusal(job, str(error)) from error


def key_text(value: object) -> str:
    """A value as an ordering key. Raises ValueError, which says what is wrong with it."""
    if isinstance(value, Enum):
        value = value.value
    if not isinstance(value, str | int | UUID) or isinstance(value, bool):
        raise ValueError(f"is a {type(value).__qualname__}; a key is text, a whole number, a UUID or an Enum of these")
    text = str(value)
    if not 0 < len(text) <= LONGEST:
        raise ValueError(f"has {len(text)} characters; a key has 1 to {LONGEST}")
    if not text.isprintable() and any(unicodedata.category(each) in ("Cc", "Cs") for each in text):
        raise ValueError("has a control character, or half of a surrogate pair, in it; leave that out")
    return text


def _refusal(job: Job, reason: str) -> DispatchError:
    return DispatchError(
        f"{job_name(type(job))} cannot be dispatched: its ordering_key {reason}. Nothing was stored; correct the job, "
        "or what its class names as the key."
    )
