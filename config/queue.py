"""Queues: where they live, and what a job gets that does not say otherwise."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt, field_validator
from pydantic_settings import SettingsConfigDict

from core.queue.queue_name import QUEUE_NAME_RULE, is_queue_name
from core.settings import Seconds, Section, SomeSeconds

MOST = 2**31 - 1
"""The largest number that every store can hold."""


class QueueSettings(Section):
    model_config = SettingsConfigDict(env_prefix="QUEUE_")

    connection: Literal["database", "redis", "memory"] = Field(
        "database", description="`redis` or `database`; `memory` is for tests"
    )
    redis_durability: str = Field(
        "memory",
        pattern=r"^(memory|fsync|replicas:[1-9][0-9]{0,2})$",
        description="what a dispatch into Redis waits for: memory, fsync or replicas:N (1 to 999)",
    )
    default: str = Field("default", description="the queue of a job that names none")
    lease: float = Field(
        15.0,
        ge=1,  # one unexpected answer to the heartbeat takes half a second, and is not to cost all leases
        le=86400,
        allow_inf_nan=False,
        description="seconds; a dead worker's jobs run again within two of them",
    )
    max_payload: PositiveInt = Field(
        1024 * 1024, le=16 * 1024 * 1024, description="bytes of one job's envelope, at most 16777216 (16 MiB)"
    )
    max_tries: PositiveInt = Field(3, le=MOST, description="how often a job is started at most")
    retry_after: Seconds = Field(60.0, description="seconds between a failed try and the next")
    timeout: Seconds = Field(60.0, description="seconds that one try may take; 0 for no limit")
    concurrency: PositiveInt = Field(10, le=MOST, description="jobs that one worker runs side by side")
    sleep: SomeSeconds = Field(3.0, description="seconds between polls of an idle worker that no wake-up reaches")
    threads: PositiveInt = Field(16, le=MOST, description="threads for jobs whose handle() is not async")
    processes: PositiveInt | None = Field(
        None, le=MOST, description='child processes for jobs with execution = "process"; unset: one for each core'
    )
    process_max_jobs: PositiveInt = Field(
        10_000, le=MOST, description="jobs after which such a process is replaced by a new one"
    )
    blocked_loop_warning: Seconds = Field(
        5.0, description="seconds after which a job that blocks the event loop is named in the log; 0 for never"
    )
    max_pending: PositiveInt = Field(
        10_000, le=MOST, description="dispatches that wait for their write at most; more must wait"
    )

    @field_validator("default")
    @classmethod
    def _has_workers(cls, name: str) -> str:
        if not is_queue_name(name):
            raise ValueError(f"the name of a queue is {QUEUE_NAME_RULE}")
        return name
