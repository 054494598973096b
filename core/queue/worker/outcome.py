"""What came of a try. The executor returns it; the completer records it."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from core.job import Job


class Completed(Struct, frozen=True):
    """The job is done."""


class Retry(Struct, frozen=True):
    """The try failed; another follows after `delay` seconds."""

    exception: Exception
    delay: float


class Failed(Struct, frozen=True):
    """The job is given up."""

    exception: Exception
    job: Job | None
    """Whose `failed()` is to be called; None where the payload could not be loaded."""


class Released(Struct, frozen=True):
    """The worker stops before the job ended, or had it too late to begin: it goes back, the try uncounted."""


class Abandoned(Struct, frozen=True):
    """The job's thread still runs when the worker ends, or its lease is lost: nothing may be reported.

    Nobody else gets the job before its lease runs out, so it never runs beside itself.
    """


Outcome: TypeAlias = Completed | Retry | Failed | Released | Abandoned
