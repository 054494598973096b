"""What one job is allowed: how many tries, how long each, and how long a wait in between."""

from __future__ import annotations

from dataclasses import dataclass

from core.job import Job


@dataclass(frozen=True, slots=True)
class Limits:
    max_tries: int
    retry_after: float  # seconds
    timeout: float  # seconds; 0 for no limit


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
        )


def _first(flag: float | None, own: float | None, default: float) -> float:
    if flag is not None:
        return flag
    return default if own is None else own
