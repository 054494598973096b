"""Python's search for reference cycles, set up for programs that hold thousands of short-lived objects at a time."""

from __future__ import annotations

import gc

_NEW_OBJECTS = 50_000
"""Between two searches, freed ones not counted: more than what a thousand messages in flight are made of."""
_MIDDLE, _OLDEST = 20, 100
"""Searches after which older objects are looked through as well."""


def search_rarely() -> None:
    """Leave out what is there already, and search the rest less often.

    As Python has it, the search goes through all that belongs to the messages and jobs in flight, time and again,
    and finds nothing: they are freed by their reference counts. It took a third of the router's time.
    """
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, _MIDDLE, _OLDEST)
