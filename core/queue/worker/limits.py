"""What one job is allowed: how many tries, how long each, and how long a wait in between."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec import Struct

from core.errors import JobTimeoutError
from core.job import Job, job_name


class Limits(Struct, frozen=True):
    max_tries: int
    retry_after: float  # seconds
    timeout: float  # seconds; 0 for no limit
    soft_timeout: float = 0.0  # seconds; 0 for never


@dataclass(frozen=True, slots=True)
class LimitRules:
    """A flag wins over the job's own attribute, and that over the configured default (DESIGN section 4)."""

    defaults: Limits
    max_tries: int | None = None
    timeout: float | None = None

    def of(self, job: Job | None) -> Limits:
        """The limits of a job; of None where a payload could not be loaded."""
        return Limits(
            max_tries=int(_first(self.max_tries, getattr(job, "max_tries", None), self.defaults.max_tries)),
            retry_after=_first(None, getattr(job, "retry_after", None), self.defaults.retry_after),
            timeout=_first(self.timeout, getattr(job, "timeout", None), self.defaults.timeout),
            soft_timeout=_first(None, getattr(job, "soft_timeout", None), self.defaults.soft_timeout),
        )


def _first(flag: float | None, own: float | None, default: float) -> float:
    if flag is not None:
        return flag
    return default if own is None else own


def timed_out(job: Job, timeout: float) -> JobTimeoutError:
    return JobTimeoutError(
        f"{job_name(type(job))} took longer than its timeout of {timeout:g} s (try {job.attempts}). Raise "
        f"`timeout` of the class, --timeout or QUEUE_TIMEOUT if it needs more."
    )
