"""Every error that RouteMQ raises, as one tree.

RouteMQError
├── SettingError                 a setting is missing or wrong
├── DiscoveryError               a file of the application cannot be imported
├── RouteError                   a topic pattern or a controller's signature is wrong
├── MessageError                 a message cannot be handled as it is
│   ├── PayloadError             ... its payload cannot be decoded into what the controller declares
│   ├── ParameterError           ... a parameter in its topic does not fit what the controller declares
│   ├── MessagePartError         ... it lacks the part that its route tells or orders messages by
│   ├── NoRouteError             ... no route matches its topic
│   └── RateLimitedError         ... it came beyond a rate limit
├── DispatchError                a job cannot be put on a queue
│   └── PayloadTooLargeError     ... because it is larger than QUEUE_MAX_PAYLOAD
├── EnvelopeError                a stored job cannot be read back
│   ├── EnvelopeVersionError     ... it was written by a newer RouteMQ
│   │   └── JobVersionError      ... ... or dispatched by a newer version of its class
│   └── UnknownJobError          ... its class is not among those found in app/jobs
├── JobError                     a try of a job ended without a result
│   ├── JobTimeoutError          ... it ran longer than its timeout
│   ├── SoftTimeout              ... it ran longer than its soft_timeout; raised inside the job
│   ├── JobProcessDiedError      ... the child process that ran it died
│   ├── JobProcessRaisedError    ... it raised, in a child process
│   ├── MaxTriesExceededError    ... its worker died in its last allowed try
│   └── PermanentError           ... raised by a job: another try would not help
├── UnavailableError             a server cannot be reached
│   ├── QueueUnavailableError    ... the store of a queue
│   └── BrokerUnavailableError   ... the MQTT broker
├── BrokerRefusedError           the broker answered, and refused us or a subscription
├── MalformedPacketError         the broker sent bytes that are no MQTT; the connection is renewed
├── SchemaOutdatedError          the database lacks migrations
├── SchemaInUseError             a migration is not taken back, as jobs would be deleted with its tables
└── NotRunningError              dispatch() outside of any Application
"""

from __future__ import annotations


class RouteMQError(Exception):
    """The root of the tree: `except RouteMQError` catches whatever RouteMQ itself raises."""


class SettingError(RouteMQError):
    """A setting is missing or wrong. The message names the variable, the value and the remedy."""


class DiscoveryError(RouteMQError):
    """A file of the application cannot be imported. The message names file, line and error; it is chained."""


class RouteError(RouteMQError):
    """A topic pattern or the controller behind it is wrong. The message names file, pattern and remedy."""


class MessageError(RouteMQError):
    """A message cannot be handled as it is; trying again would not change that."""


class PayloadError(MessageError):
    """A payload cannot be decoded into the type that the controller declares."""


class ParameterError(MessageError):
    """A parameter in a topic cannot be converted into the type that the controller declares."""


class MessagePartError(MessageError):
    """A message lacks the part that its route's `deduplicate_by` or `ordered_by` names, or that part cannot serve."""


class NoRouteError(MessageError):
    """No route matches the topic of a message."""


class RateLimitedError(MessageError):
    """A message came beyond a rate limit."""


class DispatchError(RouteMQError):
    """A job cannot be put on a queue; nothing of it was stored (of `bulk`, nothing that its note does not name)."""


class PayloadTooLargeError(DispatchError):
    """A job's payload is larger than QUEUE_MAX_PAYLOAD."""


class EnvelopeError(RouteMQError):
    """A stored job cannot be read back: it is cut off, or does not fit its class."""


class EnvelopeVersionError(EnvelopeError):
    """A stored job was written by a newer RouteMQ than this one."""


class JobVersionError(EnvelopeVersionError):
    """A stored job was dispatched by a newer version of its class than the one here."""

    def __init__(self, message: str, job: object) -> None:
        super().__init__(message)
        self.job = job
        """One of the class as it is here, without values: for its limits."""


class UnknownJobError(EnvelopeError):
    """A stored job names a class that is not among those found in app/jobs."""


class JobError(RouteMQError):
    """A try of a job ended without a result."""


class JobTimeoutError(JobError):
    """A try of a job ran longer than its timeout."""


class SoftTimeout(JobError):
    """Raised inside a job that runs longer than its `soft_timeout`: once, for it to save what it has."""

    def __init__(self, message: str = "The job ran longer than its soft_timeout.") -> None:
        super().__init__(message)


class JobProcessDiedError(JobError):
    """The child process that ran a job died. The message names the signal or the exit code."""


class JobProcessRaisedError(JobError):
    """What a job raised in its child process: the message names type and text, a note holds the traceback."""

    def __init__(self, message: str, traceback: str, *, wants_retry: bool) -> None:
        super().__init__(message)
        self.add_note(traceback)
        self.wants_retry = wants_retry
        """Whether another try makes sense, as the job itself said."""


class MaxTriesExceededError(JobError):
    """A job has used up its tries without reporting back: each time, its worker died or lost its lease."""


class PermanentError(JobError):
    """Raise it (or a subclass) in a job whose next try would fail as well: it goes to failed_jobs at once."""


class UnavailableError(RouteMQError):
    """A server cannot be reached. The message names its address; the cause is chained."""

    server = ""
    """Which one: the same text for the same server, whatever the message says. Empty where that is not known."""

    def __init__(self, *args: object, server: str = "") -> None:
        super().__init__(*args)
        self.server = server


class QueueUnavailableError(UnavailableError):
    """The store of a queue cannot be reached, or gave no answer: what was asked may or may not have happened."""


class BrokerUnavailableError(UnavailableError):
    """The MQTT broker cannot be reached."""


class BrokerRefusedError(RouteMQError):
    """The MQTT broker answered, and refused the connection or a subscription."""


class MalformedPacketError(RouteMQError):
    """The broker sent bytes that are no MQTT. The message says what is wrong with them."""


class SchemaOutdatedError(RouteMQError):
    """The database lacks migrations, or none was ever run."""


class SchemaInUseError(RouteMQError):
    """A migration is not taken back, as the jobs in its tables would be deleted with them."""


class NotRunningError(RouteMQError):
    """`dispatch()` was called while no Application is open in this process."""
