"""What a queue can be called."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeGuard

MAX_QUEUE_NAME = 191
"""Characters; what an index of MySQL holds of a utf8mb4 column."""

QUEUE_NAME_RULE = f"1 to {MAX_QUEUE_NAME} printable characters, without , and = and without blanks around them"
"""`--queue a=3,b=1` reads a comma, a sign of equality and blanks around names as its own: a queue called so would
have no worker."""


def is_queue_name(name: object) -> TypeGuard[str]:
    """Whether a queue can be called so."""
    return isinstance(name, str) and _is_usable(name)


@lru_cache
def _is_usable(name: str) -> bool:
    if not 0 < len(name) <= MAX_QUEUE_NAME:
        return False
    return name.isprintable() and name == name.strip() and "," not in name and "=" not in name
