"""Decides, from plain values, what becomes of a job whose try ended in an exception."""

from __future__ import annotations

import logging

from core.errors import EnvelopeError, JobProcessRaisedError, JobVersionError, MessageError, PermanentError
from core.job import Job
from core.queue.worker.limits import Limits
from core.queue.worker.outcome import Failed, Retry

_log = logging.getLogger("routemq.queue.retry")

NEWER_WORKER_IN = 60.0
"""Seconds that a job for a newer worker is left alone at least: while a deploy is under way, half of the workers may
be older, and it is not to use its tries up on them within seconds."""


def decide(job: Job, exception: Exception, attempts: int, limits: Limits) -> Retry | Failed:
    """Another try, unless the error is permanent, the tries are used up, or the job says no."""
    if attempts >= limits.max_tries or not wants_retry(job, exception):
        return Failed(exception, job)
    return Retry(exception, limits.retry_after)


def decide_unread(error: EnvelopeError, attempts: int, limits: Limits) -> Retry | Failed:
    """A payload that cannot be read is given up. A job of a newer version of its class waits for a newer worker first,
    as long as it has tries: handed back at once, it would come back at once, ahead of all that could be done here."""
    if isinstance(error, JobVersionError) and attempts < limits.max_tries:
        return Retry(error, max(limits.retry_after, NEWER_WORKER_IN))
    return Failed(error, None)


def wants_retry(job: Job | None, exception: Exception) -> bool:
    """Whether another try makes sense. A `should_retry` that raises counts as a yes: the tries are bounded, and
    giving up early loses work.

    A recorded message that still does not fit its route (MessageError) would not fit it the next time either.
    """
    if isinstance(exception, JobProcessRaisedError):
        return exception.wants_retry
    if job is None or isinstance(exception, PermanentError | MessageError):
        return False
    try:
        return job.should_retry(exception)
    except (Exception, SystemExit):
        _log.exception("should_retry() of job %s raised; the job is tried again", job.job_id)
        return True
