"""Joins the entries of a ledger, and says which promises were not kept.

lost         accepted, and neither done nor, where it is meant to fail, given up.
invented     handled, started or given up, and never accepted. One that its publisher never saw acknowledged may well
             have arrived: such a run passes the ids that it has sent.
given up     though it is not meant to fail.
untold       given up, and its failed() never called, with no crash that explains it.
unexplained  started again after it was done, or after a try without an end; handled again; or more jobs than it was
             handled times: with no crash that explains it.
doubled      more jobs than one, of what was sent more than once and is to become one.
miscounted   a try whose number is not above that of the one before it, with nothing that explains it.
overlap      two tries of one job at the same time.
disorder     a job that was started before an earlier one of its key had come to its end.

A crash explains the repeat of a try that was not yet recorded as done: the process was killed while the try ran, or
shortly (GRACE) after it had ended, when its completion may have been on its way to the store; or it was frozen for as
long that others had to take it for dead. A thread or a child process may wait for its turn, and has it when
that goes on: such a try counts as begun when its worker was frozen. A process that was asked to stop has ended all
tries but those in threads and in children, which it leaves behind or kills. A try that its worker cancelled is no
failure: that it stopped, or something that takes a lease away, has to explain the next one.

A message is handled again where its router came to an end before the broker had its PUBACK. That makes another job,
which may well run at the same time as the first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from math import inf

from tests.chaos.ledger import Entry, What, Where

HOOK = 10.0
"""Seconds after its last try within which a job that is given up has its failed() called."""
GRACE = 2.0
"""Seconds that a completion may take to reach a store that is well. A ledger of a run in which stores are ill says how
long each was: `outages` of `check`."""


@dataclass(frozen=True)
class Finding:
    rule: str
    about: str
    """The id, or the key."""
    story: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.about}: {self.story}"


@dataclass(frozen=True)
class Verdict:
    accepted: int
    done_once: int
    done_again: int
    """All of them explained by a crash, where there are no findings of that."""
    given_up: int
    kills: int
    findings: list[Finding]

    @property
    def counts(self) -> str:
        return (
            f"{self.accepted} accepted, {self.done_once} done once, {self.done_again} done again, "
            f"{self.given_up} given up, {self.kills} kills, {len(self.findings)} findings"
        )


@dataclass
class Try:
    process: int
    attempt: int
    begun: float
    where: Where = "loop"
    ended: float | None = None
    """When it said how."""
    end: What | None = None
    """done, raised or cancelled."""
    gave_up: bool = False
    """The job with it."""

    @property
    def is_done(self) -> bool:
        return self.end == "done"


@dataclass
class Story:
    """What became of one id."""

    accepted: Entry | None = None
    handled: list[Entry] = field(default_factory=list)
    jobs: dict[str, list[Try]] = field(default_factory=lambda: defaultdict(list))
    """The tries of each job that was made for it."""
    failed: list[float] = field(default_factory=list)
    has_row: bool = False
    """In failed_jobs."""

    @property
    def tries(self) -> list[Try]:
        return sorted(chain.from_iterable(self.jobs.values()), key=lambda each: each.begun)

    @property
    def done(self) -> int:
        return sum(each.is_done for each in self.tries)


Span = tuple[float, float]
"""From when to when, monotonic."""


class _Deaths:
    """When which process was killed, frozen or stopped."""

    def __init__(
        self,
        entries: Iterable[Entry],
        outages: Sequence[Span],
        broker_outages: Sequence[Span],
        answers_lost: Sequence[Span],
    ) -> None:
        self._killed: dict[int, float] = {}
        self._stopping: dict[int, float] = {}
        self._stopped: dict[int, float] = {}
        self._frozen: dict[int, list[float]] = defaultdict(list)
        self._thawed: dict[int, list[float]] = defaultdict(list)
        self._outages = outages
        self._broker_outages = broker_outages
        self._answers_lost = answers_lost
        for entry in entries:
            if entry.what == "killed":
                self._killed[entry.process] = entry.at
            elif entry.what == "stopping":
                self._stopping[entry.process] = entry.at
            elif entry.what == "stopped":
                self._stopped[entry.process] = entry.at
            elif entry.what == "frozen":
                self._frozen[entry.process].append(entry.at)
            elif entry.what == "thawed":
                self._thawed[entry.process].append(entry.at)

    def explain(self, one: Try, following: Try) -> bool:
        """Whether what befell the process of one try, or the store, is a reason for the following one."""
        if self._was_left(one, following.begun):
            return True
        until = one.ended + GRACE if one.ended is not None else following.begun
        return self.befell(one.process, one.begun, min(until, following.begun)) or self._was_ill(one.begun, until)

    def explain_message(self, one: Entry, following: Entry) -> bool:
        """Whether a message could not be acknowledged before it was handled again."""
        is_stopped = one.at <= self._stopped.get(one.process, inf) <= following.at
        is_cut = _meets(self._answers_lost, one.at, following.at)
        is_hurt = self.befell(one.process, one.at, following.at) or self._was_ill(one.at, following.at)
        return is_stopped or is_cut or is_hurt or _meets(self._broker_outages, one.at, following.at)

    def most_jobs(self, story: Story) -> int:
        """That a message may make. One that is only handled again as an answer was lost has its job already."""
        return 1 if self._answers_lost else max(1, len(story.handled))

    def was_pushed_again(self, one: Try, following: Try) -> bool:
        """Whether the push of a job was told again, as its answer was lost (in an outage, too), when the job was done
        or given up already: with its tries counted anew. Of what has left its queue, a store knows nothing more."""
        is_anew = (one.is_done or one.gave_up) and following.attempt <= one.attempt
        span = one.begun - GRACE, following.begun
        return is_anew and (_meets(self._answers_lost, *span) or _meets(self._outages, *span))

    def explain_silence(self, last: Try) -> bool:
        """Whether the process of a job's last try may have had no time to call its failed(), or may not have been told
        that the failure is stored: where that answer got lost, the worker hears of a stale lease."""
        until = (last.begun if last.ended is None else last.ended) + HOOK
        is_stopped = last.begun <= self._stopped.get(last.process, inf) <= until
        is_hurt = self.befell(last.process, last.begun, until)
        is_cut = _meets(self._answers_lost, last.begun, until)
        return is_stopped or is_hurt or is_cut or _meets(self._outages, last.begun, until)

    def befell(self, process: int, begin: float, end: float) -> bool:
        """Whether the process was killed or frozen in that span."""
        killed = [self._killed[process]] if process in self._killed else []
        return any(begin <= moment <= end for moment in [*self._frozen[process], *killed])

    def was_frozen(self, one: Try, until: float) -> bool:
        return any(one.begun <= moment <= until for moment in self._frozen[one.process])

    def beginning(self, one: Try, earliest: float) -> float:
        """When it began, or would have, had its process not been frozen; `earliest` is when the try before it began."""
        spans = zip(self._frozen[one.process], self._thawed[one.process], strict=False)
        waited = [frozen for frozen, thawed in spans if earliest <= frozen <= one.begun <= thawed + GRACE]
        return min(waited) if waited and one.where != "loop" else one.begun

    def end_of(self, one: Try) -> float:
        """When it ran no longer, as far as is known. Of a child that a stopping worker kills, nobody writes it down."""
        if one.ended is not None:
            return one.ended
        end = self._stopping if one.where == "child" else self._stopped
        return min(self._killed.get(one.process, inf), end.get(one.process, inf))

    def explain_number(self, one: Try, following: Try) -> bool:
        """Whether the number of a try may have been given again: by a worker that stopped, and handed it back
        uncounted, which it cannot where it leaves a thread behind; or as the job was pushed again."""
        is_back = one.where != "thread" and self._was_left(one, following.begun)
        return (is_back and following.attempt == one.attempt) or self.was_pushed_again(one, following)

    def _was_left(self, one: Try, until: float) -> bool:
        """Whether its worker was asked to stop, and handed it back, left it behind or killed it."""
        stopping = self._stopping.get(one.process, inf)
        is_late = one.ended is None or stopping <= one.ended
        return (one.where != "loop" or one.end == "cancelled") and is_late and stopping <= until

    def _was_ill(self, begin: float, end: float) -> bool:
        return _meets(self._outages, begin, end)


def _meets(spans: Sequence[Span], begin: float, end: float) -> bool:
    return any(fell_ill <= end and got_well >= begin for fell_ill, got_well in spans)


def check(
    entries: Sequence[Entry],
    *,
    rows: Collection[str] | None = None,
    sent: Collection[str] = (),
    outages: Sequence[Span] = (),
    broker_outages: Sequence[Span] = (),
    answers_lost: Sequence[Span] = (),
) -> Verdict:
    """The verdict on a run, whose entries are in the order of time.

    `rows` are the ids whose jobs failed_jobs holds in the end; where nobody looked, failed() is taken for its word.
    `sent` are ids that may have arrived without being accepted; `outages` when a store was ill, as (begin, end);
    `broker_outages` when a broker was, which explains no more than that messages are handled again;
    `answers_lost` when it was well, and those who asked were not told so: see `_Deaths.was_pushed_again`.
    """
    stories, deaths = _stories(entries, rows), _Deaths(entries, outages, broker_outages, answers_lost)
    _settle_beginnings(stories, deaths)
    findings = [
        *_of_ends(stories, frozenset(sent)),
        *_of_silence(stories, deaths),
        *_of_repeats(stories, deaths),
        *_of_numbers(stories, deaths),
        *_of_messages(stories, deaths),
        *_of_overlaps(stories, deaths),
        *_of_order(stories),
    ]
    accepted = [story for story in stories.values() if story.accepted]
    return Verdict(
        accepted=len(accepted),
        done_once=sum(story.done == 1 for story in accepted),
        done_again=sum(story.done > 1 for story in accepted),
        given_up=sum(story.has_row for story in accepted),
        kills=sum(entry.what == "killed" for entry in entries),
        findings=findings,
    )


def _stories(entries: Iterable[Entry], rows: Collection[str] | None) -> dict[str, Story]:
    stories: dict[str, Story] = defaultdict(Story)
    for entry in entries:
        if entry.id:
            _continue(stories[entry.id], entry)
    for id_ in [id_ for id_, story in stories.items() if story.failed] if rows is None else rows:
        stories[id_].has_row = True
    return dict(stories)


def _settle_beginnings(stories: dict[str, Story], deaths: _Deaths) -> None:
    for story in stories.values():
        for tries in story.jobs.values():
            for one in sorted(tries, key=lambda each: each.attempt):
                before = [each.begun for each in tries if each.attempt < one.attempt]
                one.begun = deaths.beginning(one, max(before, default=0.0))
            tries.sort(key=lambda each: each.begun)


def _continue(story: Story, entry: Entry) -> None:
    if entry.what == "accepted":
        story.accepted = entry
    elif entry.what == "handled":
        story.handled.append(entry)
    elif entry.what == "started":
        story.jobs[entry.job].append(Try(entry.process, entry.attempt, entry.at, entry.where))
    elif entry.what == "failed":
        story.failed.append(entry.at)
        for one in story.jobs.get(entry.job, [])[-1:]:
            one.gave_up = True
    elif entry.what in ("done", "raised", "cancelled"):
        _end(story, entry)


def _end(story: Story, entry: Entry) -> None:
    mine = [each for each in story.jobs[entry.job] if (each.process, each.attempt) == (entry.process, entry.attempt)]
    if mine:
        mine[-1].ended, mine[-1].end = entry.at, entry.what


def _of_ends(stories: dict[str, Story], sent: frozenset[str]) -> Iterator[Finding]:
    for id_, story in stories.items():
        if story.accepted is None:
            if id_ not in sent:
                yield Finding("invented", id_, "nobody was told that it was accepted, and nobody sent it")
        elif story.accepted.fails:
            if not story.has_row:
                yield Finding(
                    "lost", id_, f"it was to be given up after its tries, of which there were {_tried(story)}"
                )
        elif story.has_row or story.failed:
            yield Finding("given up", id_, f"it was not meant to fail; there were {_tried(story)} tries")
        elif not story.done:
            yield Finding("lost", id_, f"accepted at {story.accepted.at:.3f}, and never done in {_tried(story)} tries")


def _of_silence(stories: dict[str, Story], deaths: _Deaths) -> Iterator[Finding]:
    """Of the last try, a process that lived on has to have called failed(); where the try has no end, it did not."""
    for id_, story in stories.items():
        if story.has_row and not story.failed and story.tries:
            last = story.tries[-1]
            if last.ended is not None and not deaths.explain_silence(last):
                yield Finding("untold", id_, f"process {last.process} gave it up, and did not call its failed()")


def _of_repeats(stories: dict[str, Story], deaths: _Deaths) -> Iterator[Finding]:
    for id_, one, following in _repeats(stories):
        if one.end != "raised" and not deaths.explain(one, following) and not deaths.was_pushed_again(one, following):
            state = {"done": "was done", "cancelled": "was cancelled"}.get(one.end or "", "did not end")
            yield Finding(
                "unexplained",
                id_,
                f"try {one.attempt} in process {one.process} {state}; try {following.attempt} began in "
                f"{following.process} at {following.begun:.3f}",
            )


def _of_numbers(stories: dict[str, Story], deaths: _Deaths) -> Iterator[Finding]:
    for id_, one, following in _repeats(stories):
        if following.attempt <= one.attempt and not deaths.explain_number(one, following):
            yield Finding(
                "miscounted",
                id_,
                f"try {one.attempt} in process {one.process} was followed by one in {following.process} that bears the "
                f"number {following.attempt}",
            )


def _of_messages(stories: dict[str, Story], deaths: _Deaths) -> Iterator[Finding]:
    for id_, story in stories.items():
        if story.accepted and story.accepted.once:
            if len(story.jobs) > 1:
                yield Finding("doubled", id_, f"it became {len(story.jobs)} jobs")
            continue
        for one, following in pairwise(story.handled):
            if not deaths.explain_message(one, following):
                yield Finding(
                    "unexplained",
                    id_,
                    f"handled by process {one.process}, and again by {following.process} at {following.at:.3f}",
                )
        if len(story.jobs) > deaths.most_jobs(story):
            yield Finding("unexplained", id_, f"{len(story.jobs)} jobs; it was handled {len(story.handled)} times")


def _of_overlaps(stories: dict[str, Story], deaths: _Deaths) -> Iterator[Finding]:
    for id_, one, following in _repeats(stories):
        if deaths.end_of(one) > following.begun and not deaths.was_frozen(one, following.begun):
            yield Finding(
                "overlap",
                id_,
                f"try {following.attempt} began in process {following.process} at {following.begun:.3f}, while "
                f"try {one.attempt} ran in {one.process}",
            )


def _repeats(stories: dict[str, Story]) -> Iterator[tuple[str, Try, Try]]:
    """Each try that was not the last of its job, the one that followed, and whom it is about."""
    for id_, story in stories.items():
        for tries in story.jobs.values():
            for one, following in pairwise(tries):
                yield id_, one, following


def _of_order(stories: dict[str, Story]) -> Iterator[Finding]:
    """Jobs of a key are to start in the order in which they were accepted, each after the end of the one before."""
    keys: dict[str, list[tuple[str, Story]]] = defaultdict(list)
    for id_, story in stories.items():
        if story.accepted and story.accepted.key:
            keys[story.accepted.key].append((id_, story))
    for key, line in keys.items():
        line.sort(key=lambda each: each[1].accepted.at if each[1].accepted else 0.0)
        for (earlier, before), (later, after) in pairwise(line):
            if after.tries and after.tries[0].begun < _end_of(before):
                yield Finding("disorder", key, f"{later} began before {earlier} had come to its end")


def _end_of(story: Story) -> float:
    """When it was first done or given up."""
    done = [each.ended for each in story.tries if each.is_done and each.ended is not None]
    return min([*done, *story.failed], default=inf)


def _tried(story: Story) -> int:
    return len(story.tries)
