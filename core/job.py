"""`Job`: a unit of work that a worker runs later, and that survives in a store until then.

Two styles, one class. Declared fields are typed, validated when the job is dispatched, and set through a
keyword constructor; a class with a constructor of its own carries plain attributes instead:

    class SendEmail(Job):
        queue = "emails"
        to: str
        subject: str = ""

        async def handle(self) -> None: ...
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from copy import deepcopy
from functools import partial
from inspect import get_annotations, getattr_static, iscoroutinefunction, isfunction, signature
from typing import Any, ClassVar, Literal, TypeAlias, dataclass_transform, get_args, get_origin, get_type_hints

import msgspec

OPTIONS = ("max_tries", "retry_after", "timeout", "soft_timeout")
"""What travels with a job when it is set on the instance; the class' own options stay with the class."""

OF_THE_CLASS = frozenset({"version", "ordering_key"})
"""What a class alone can say."""

OF_EACH_TRY = frozenset({"job_id", "attempts"})
"""What the worker sets before `handle()`."""

RESERVED = frozenset({*OPTIONS, *OF_THE_CLASS, *OF_EACH_TRY, "execution", "queue"})
"""Names that no declared field can have."""

Execution: TypeAlias = Literal["auto", "process"]

HOOKS = frozenset({"handle", "failed", "should_retry", "upgrade"})


@dataclass_transform(kw_only_default=True)
class Job:
    """The base of all jobs. Subclasses in `app/jobs/` are found by themselves.

    Options are attributes of the class, or of one instance, and then travel with it; where neither is
    set, the configured default holds (QUEUE_DEFAULT, QUEUE_MAX_TRIES, QUEUE_RETRY_AFTER, QUEUE_TIMEOUT).
    """

    queue: str
    """The queue that it is dispatched to."""
    max_tries: int
    """How often it is started at most."""
    retry_after: float
    """Seconds between a failed try and the next."""
    timeout: float
    """Seconds that one try may take; 0 for no limit."""
    soft_timeout: float
    """Seconds after which SoftTimeout is raised inside the job, once; 0 for never."""
    execution: ClassVar[Execution] = "auto"
    """Where `handle` runs. "auto": `async def` on the event loop, `def` in a thread. "process": in a child process."""
    version: ClassVar[int] = 1
    """Of what the class stores: raise it with each change that jobs stored before do not fit, and define `upgrade`."""
    ordering_key: ClassVar[Any] = None
    """Jobs of a queue with the same key run one at a time, in the order in which they were dispatched.

    A text names the attribute whose value is the key; `def ordering_key(self)` returns it. A key is text, a whole
    number, a UUID or an Enum of these; None leaves a job unordered.
    """
    job_id: str
    """UUIDv7; set once it is dispatched, and inside `handle()`."""
    attempts: int
    """How often it was started, this try included; set inside `handle()` and `failed()`."""

    def __init__(self, **values: Any) -> None:
        fields = declared_fields(type(self))
        if fields is None:
            _refuse(self, values)
        elif tuple(values) == fields.__struct_fields__:  # nothing is left to fill in
            vars(self).update(values)
        else:
            vars(self).update(msgspec.structs.asdict(_fill(self, fields, values)))

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for problem in _problems(cls):
            raise TypeError(f"{job_name(cls)}: {problem}.")

    def handle(self) -> Awaitable[None] | None:
        """Do the work. `async def` runs on the event loop, `def` in a thread, unless `execution` says otherwise."""
        raise NotImplementedError(f"{job_name(type(self))} has no handle(): define it, as `async def` or `def`.")

    def failed(self, exception: Exception) -> Awaitable[None] | None:
        """Called once the job is given up and its row of failed_jobs is stored."""

    def should_retry(self, exception: Exception) -> bool:
        """Whether another try makes sense after this exception; asked only while tries are left."""
        return True

    @classmethod
    def upgrade(cls, data: dict[str, Any], version: int) -> dict[str, Any]:
        """Make what `version` of this class has stored into what fits today.

        `data` holds the values as the JSON of the store has them. What it raises fails the job, with its record.
        """
        raise NotImplementedError

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in vars(self).items() if not name.startswith("_"))
        return f"{type(self).__name__}({values})"


def job_name(cls: type[Job]) -> str:
    """What a payload calls a class: its module and name, e.g. `app.jobs.send_email.SendEmail`."""
    return f"{cls.__module__}.{cls.__qualname__}"


def _problems(cls: type[Job]) -> Iterator[str]:
    """What of a class' own words cannot be."""
    if cls.execution not in get_args(Execution):
        yield f"execution={cls.execution!r} is not known; there are 'auto' and 'process'"
    annotated = set(vars(cls).get("__annotations__", ()))
    for name in sorted(annotated & OF_THE_CLASS - vars(cls).keys() | annotated & OF_EACH_TRY):
        yield f"{name!r} cannot be a field: it is a word of RouteMQ's. Give the field another name"
    yield from _problems_of_version(cls)
    yield from _problems_of_ordering_key(cls)


def _problems_of_version(cls: type[Job]) -> Iterator[str]:
    upgrade = getattr_static(cls, "upgrade")
    has_upgrade = upgrade is not vars(Job)["upgrade"]
    if type(cls.version) is not int or cls.version < 1:
        yield f"version={cls.version!r} is not usable; give a whole number from 1"
    elif cls.version > 1 and not has_upgrade:
        yield f"version={cls.version} needs upgrade(data, version), which makes what older ones stored fit this one"
    elif cls.version == 1 and has_upgrade:
        yield "upgrade() is never called while version is 1; raise that"
    elif has_upgrade and (not isinstance(upgrade, classmethod | staticmethod) or iscoroutinefunction(cls.upgrade)):
        yield "upgrade() is called before there is a job; make it a @classmethod or @staticmethod, not async"
    elif has_upgrade and not _can_be_called(cls.upgrade, {}, 1):
        yield "upgrade() is called with two arguments; give it both, data and version"


def _problems_of_ordering_key(cls: type[Job]) -> Iterator[str]:
    key = cls.ordering_key
    if key is None or (isinstance(key, str) and key.isidentifier()):
        return
    if not callable(key) or iscoroutinefunction(key):
        shown = "ordering_key() is async, and" if callable(key) else f"ordering_key={key!r}"
        yield f"{shown} is not usable; name an attribute, or define it as a method that is not async"
    elif isfunction(getattr_static(cls, "ordering_key")) and not _can_be_called(key, None):
        yield "ordering_key() is called without arguments; have it read what it needs from self"


def _can_be_called(function: Callable[..., Any], *arguments: Any) -> bool:
    try:
        parameters = signature(function, follow_wrapped=False)
    except ValueError:  # it tells nobody
        return True
    try:
        parameters.bind(*arguments)
    except TypeError:
        return False
    return True


def declared_fields(cls: type[Job]) -> type[msgspec.Struct] | None:
    """The struct of a class' declared fields; None where the class carries plain attributes."""
    try:
        return _declared[cls]
    except KeyError:
        return _declared.setdefault(cls, _struct_of(cls))


_declared: dict[type[Job], type[msgspec.Struct] | None] = {}


def _struct_of(cls: type[Job]) -> type[msgspec.Struct] | None:
    if cls.__init__ is not Job.__init__:
        return None
    fields = [(name, kind, _default(cls, name)) for name, kind in field_types(cls).items()]
    return msgspec.defstruct(cls.__name__, fields, kw_only=True) if fields else None


def field_types(cls: type[Job]) -> dict[str, Any]:
    """The annotations of the classes between `Job` and `cls`, in order of declaration."""
    types: dict[str, Any] = {}
    for owner in reversed(cls.__mro__):
        if issubclass(owner, Job) and owner is not Job:
            hints = get_type_hints(owner, include_extras=True)
            types |= {name: hints[name] for name in get_annotations(owner) if _is_field(name, hints[name])}
    return types


def _is_field(name: str, kind: Any) -> bool:
    if name in HOOKS:
        raise TypeError(f"{name!r} cannot be a field: it is what RouteMQ calls. Give the field another name.")
    return name not in RESERVED and not name.startswith("_") and ClassVar not in (kind, get_origin(kind))


def _default(cls: type[Job], name: str) -> Any:
    default = getattr(cls, name, msgspec.NODEFAULT)
    if type(default).__hash__ is None:  # a list, a dict, a model: what may change is made anew for each job
        return msgspec.field(default_factory=partial(deepcopy, default))
    return default


def _fill(job: Job, fields: type[msgspec.Struct], values: dict[str, Any]) -> msgspec.Struct:
    try:
        return fields(**values)
    except TypeError as error:
        _refuse(job, values.keys() - set(fields.__struct_fields__))
        raise TypeError(f"{type(job).__name__}: {error}") from None


def _refuse(job: Job, names: Any) -> None:
    if names:
        raise TypeError(f"{type(job).__name__} declares no field {', '.join(sorted(names))}.")
