"""What came of a try. The executor returns it; the completer records it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from core.job import Job


@dataclass(frozen=True, slots=True)
class Completed:
    """The job is done."""


@dataclass(frozen=True, slots=True)
class Retry:
    """The try failed; another follows after `delay` seconds."""

    exception: Exception
    delay: float


@dataclass(frozen=True, slots=True)
class Failed:
    """The job is given up."""

    exception: Exception
    job: Job | None
    """Whose `failed()` is to be called; None where the payload could not be loaded."""


@dataclass(frozen=True, slots=True)
class Released:
    """The worker stops before the job ended: it goes back, the try uncounted."""


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The job's thread still runs when the worker ends, or its lease is lost: nothing may be reported.

    Nobody else gets the job before its lease runs out, so it never runs beside itself.
    """


Outcome: TypeAlias = Completed | Retry | Failed | Released | Abandoned
