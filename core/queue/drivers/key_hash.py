"""Ordering keys and unique keys as the tables name them."""

from __future__ import annotations

from hashlib import sha256


def key_hash(queue: str, key: str) -> str:
    """A key of a queue in the width of a column. Keys come from devices, and may be any text of any length."""
    return sha256(f"{queue}\0{key}".encode("utf-8", "surrogatepass")).hexdigest()
