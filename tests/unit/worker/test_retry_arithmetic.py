"""How often a job is started, and how long it waits in between, whatever was set where."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from core.clock import CENTURY
from core.errors import JobError, MessageError, PayloadError, PermanentError
from core.job import Job
from core.queue.worker.limits import LimitRules, Limits
from core.queue.worker.outcome import Failed, Retry
from core.queue.worker.retry import decide
from tests.examples import examples

TRIES = st.integers(1, 20)
SECONDS = st.one_of(st.floats(0, CENTURY), st.integers(0, int(CENTURY)), st.sampled_from([0, 0.0, 1e-9, CENTURY]))
DEFAULTS = st.builds(Limits, TRIES, SECONDS, SECONDS, SECONDS)
RULES = st.builds(LimitRules, DEFAULTS, st.none() | TRIES, st.none() | SECONDS)
OWN = st.fixed_dictionaries(
    {}, optional={"max_tries": TRIES, "retry_after": SECONDS, "timeout": SECONDS, "soft_timeout": SECONDS}
)


class Gone(PermanentError):
    """Another try would not help."""


class Stubborn(Job):
    """Never succeeds; says itself whether to go on."""

    def __init__(self, wants_retry: Any = True) -> None:
        super().__init__()
        self.wants_retry = wants_retry

    def should_retry(self, exception: Exception) -> bool:
        if isinstance(self.wants_retry, BaseException):
            raise self.wants_retry
        return bool(self.wants_retry)


def with_options(on_class: dict[str, Any], on_instance: dict[str, Any], wants_retry: Any = True) -> Job:
    job: Job = type("Theirs", (Stubborn,), on_class)(wants_retry)
    vars(job).update(on_instance)
    return job


def first_set(*values: Any) -> Any:
    return next(value for value in values if value is not None)


@given(RULES, OWN, OWN)
def test_a_flag_wins_over_the_instance_that_over_its_class_and_that_over_the_default(
    rules: LimitRules, on_class: dict[str, Any], on_instance: dict[str, Any]
) -> None:
    own = {**on_class, **on_instance}
    limits = rules.of(with_options(on_class, on_instance))
    assert limits.max_tries == first_set(rules.max_tries, own.get("max_tries"), rules.defaults.max_tries)
    assert limits.timeout == first_set(rules.timeout, own.get("timeout"), rules.defaults.timeout)
    assert limits.retry_after == first_set(own.get("retry_after"), rules.defaults.retry_after)
    assert limits.soft_timeout == first_set(own.get("soft_timeout"), rules.defaults.soft_timeout)


@given(RULES)
def test_a_job_that_could_not_be_loaded_has_what_flags_and_defaults_say(rules: LimitRules) -> None:
    limits = rules.of(None)
    assert limits.max_tries == first_set(rules.max_tries, rules.defaults.max_tries)
    assert limits.retry_after == rules.defaults.retry_after


@given(RULES, OWN, st.sets(st.integers(1, 25)))
def test_a_job_that_never_succeeds_is_started_as_often_as_it_may_be_and_given_up_then(
    rules: LimitRules, own: dict[str, Any], lost_tries: set[int]
) -> None:
    """Tries whose worker died count like the others, though nobody decides after them."""
    job = with_options({}, own)
    limits = rules.of(job)
    for attempts in range(1, limits.max_tries + 1):
        if attempts in lost_tries:
            continue
        outcome = decide(job, RuntimeError("no"), attempts, limits)
        if attempts < limits.max_tries:
            assert isinstance(outcome, Retry)
            assert outcome.delay == limits.retry_after
            assert math.isfinite(outcome.delay) and outcome.delay >= 0
        else:
            assert isinstance(outcome, Failed)


@given(RULES, TRIES, st.sampled_from([Gone("no"), PermanentError("no"), MessageError("no"), PayloadError("no")]))
def test_an_error_that_another_try_would_meet_again_gives_the_job_up_at_once(
    rules: LimitRules, attempts: int, error: Exception
) -> None:
    assert isinstance(decide(Stubborn(), error, attempts, rules.of(Stubborn())), Failed)


@examples(30)
@given(RULES, TRIES, st.sampled_from([True, False, 1, 0, None, ValueError("moody"), SystemExit(3)]))
def test_what_the_job_itself_says_counts_while_tries_are_left(
    rules: LimitRules, attempts: int, wants_retry: Any
) -> None:
    """One that cannot say is tried again: its tries are bounded, and giving up early would lose work."""
    job = Stubborn(wants_retry)
    job.job_id = "0190-id"
    limits = rules.of(job)
    goes_on = (isinstance(wants_retry, BaseException) or bool(wants_retry)) and attempts < limits.max_tries
    assert isinstance(decide(job, JobError("no"), attempts, limits), Retry if goes_on else Failed)
