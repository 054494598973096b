"""Joins the entries of a ledger, and says which promises were not kept.

lost         accepted, and neither done nor, where it is meant to fail, given up.
invented     handled, started or given up, and never accepted. One that its publisher never saw acknowledged may well
             have arrived: such a run passes the ids that it has sent.
given up     though it is not meant to fail.
unexplained  started again after it was done, or after a try without an end, with no crash that explains it.
overlap      two tries of one job at the same time.
disorder     a job that was started before an earlier one of its key had come to its end.

A crash explains the repeat of a try that was not yet recorded as done: the process was killed while the try ran, or
shortly (GRACE) after it had ended, when its completion may have been on its way to the store; or it was frozen for as
long that others had to take it for dead.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tests.chaos.ledger import Entry

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

    def __str__(self) -> str:
        counts = (
            f"{self.accepted} accepted, {self.done_once} done once, {self.done_again} done again, "
            f"{self.given_up} given up, {self.kills} kills, {len(self.findings)} findings"
        )
        return "\n".join([counts, *map(str, self.findings[:20])])


@dataclass
class Try:
    process: int
    attempt: int
    begun: float
    ended: float | None = None
    """When it said that it was done, or raised."""
    is_done: bool = False


@dataclass
class Story:
    """What became of one id."""

    accepted: Entry | None = None
    tries: list[Try] = field(default_factory=list)
    failed: list[float] = field(default_factory=list)

    @property
    def done(self) -> int:
        return sum(each.is_done for each in self.tries)


Span = tuple[float, float]


class _Deaths:
    """When which process was killed or frozen."""

    def __init__(self, entries: Iterable[Entry], outages: Sequence[Span]) -> None:
        self.killed: dict[int, float] = {}
        self._frozen: dict[int, list[float]] = defaultdict(list)
        self._outages = outages
        for entry in entries:
            if entry.what == "killed":
                self.killed[entry.process] = entry.at
            elif entry.what == "frozen":
                self._frozen[entry.process].append(entry.at)

    def explain(self, one: Try, following: Try) -> bool:
        """Whether what befell the process of one try, or the store, is a reason for the following one."""
        until = one.ended + GRACE if one.ended is not None else following.begun
        moments = [*self._frozen[one.process], *([self.killed[one.process]] if one.process in self.killed else [])]
        if any(one.begun <= moment <= until and moment <= following.begun for moment in moments):
            return True
        return any(begin <= until and end >= one.begun and begin <= following.begun for begin, end in self._outages)

    def was_frozen(self, one: Try, until: float) -> bool:
        return any(one.begun <= moment <= until for moment in self._frozen[one.process])

    def end_of(self, one: Try) -> float:
        """When it ran no longer, as far as is known."""
        if one.ended is not None:
            return one.ended
        return self.killed.get(one.process, float("inf"))


def check(entries: Sequence[Entry], *, sent: Collection[str] = (), outages: Sequence[Span] = ()) -> Verdict:
    """The verdict on a run, whose entries are in the order of time.

    `sent` are ids that may have arrived without being accepted; `outages` when a store was ill, as (begin, end).
    """
    stories, deaths = _stories(entries), _Deaths(entries, outages)
    findings = [
        *_of_ends(stories, frozenset(sent)),
        *_of_repeats(stories, deaths),
        *_of_overlaps(stories, deaths),
        *_of_order(stories, deaths),
    ]
    accepted = [story for story in stories.values() if story.accepted]
    return Verdict(
        accepted=len(accepted),
        done_once=sum(story.done == 1 for story in accepted),
        done_again=sum(story.done > 1 for story in accepted),
        given_up=sum(bool(story.failed) for story in accepted),
        kills=sum(entry.what == "killed" for entry in entries),
        findings=findings,
    )


def _stories(entries: Iterable[Entry]) -> dict[str, Story]:
    stories: dict[str, Story] = defaultdict(Story)
    for entry in entries:
        if entry.id:
            _continue(stories[entry.id], entry)
    return dict(stories)


def _continue(story: Story, entry: Entry) -> None:
    if entry.what == "accepted":
        story.accepted = entry
    elif entry.what == "started":
        story.tries.append(Try(entry.process, entry.attempt, entry.at))
    elif entry.what == "failed":
        story.failed.append(entry.at)
    elif entry.what in ("done", "raised"):
        _end(story, entry)


def _end(story: Story, entry: Entry) -> None:
    mine = [each for each in story.tries if (each.process, each.attempt) == (entry.process, entry.attempt)]
    if mine:
        mine[-1].ended, mine[-1].is_done = entry.at, entry.what == "done"


def _of_ends(stories: dict[str, Story], sent: frozenset[str]) -> Iterator[Finding]:
    for id_, story in stories.items():
        if story.accepted is None:
            if id_ not in sent:
                yield Finding("invented", id_, "nobody was told that it was accepted, and nobody sent it")
        elif story.accepted.fails:
            if not story.failed:
                yield Finding(
                    "lost", id_, f"it was to be given up after its tries, of which there were {_tried(story)}"
                )
        elif story.failed and not story.done:
            yield Finding("given up", id_, f"it was not meant to fail; there were {_tried(story)} tries")
        elif not story.done:
            yield Finding("lost", id_, f"accepted at {story.accepted.at:.3f}, and never done in {_tried(story)} tries")


def _of_repeats(stories: dict[str, Story], deaths: _Deaths) -> Iterator[Finding]:
    for id_, one, following in _repeats(stories):
        has_failed = one.ended is not None and not one.is_done
        if not has_failed and not deaths.explain(one, following):
            state = "was done" if one.is_done else "did not end"
            yield Finding(
                "unexplained",
                id_,
                f"try {one.attempt} in process {one.process} {state}; try {following.attempt} began in "
                f"{following.process} at {following.begun:.3f}",
            )


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
    """Each try that was not the last of its job, and the one that followed."""
    for id_, story in stories.items():
        for one, following in pairwise(story.tries):
            yield id_, one, following


def _of_order(stories: dict[str, Story], deaths: _Deaths) -> Iterator[Finding]:
    """Jobs of a key are to start in the order in which they were accepted, each after the end of the one before."""
    keys: dict[str, list[tuple[str, Story]]] = defaultdict(list)
    for id_, story in stories.items():
        if story.accepted and story.accepted.key:
            keys[story.accepted.key].append((id_, story))
    for key, line in keys.items():
        line.sort(key=lambda each: each[1].accepted.at if each[1].accepted else 0.0)
        for (earlier, before), (later, after) in pairwise(line):
            if after.tries and after.tries[0].begun < _end_of(before, deaths):
                yield Finding("disorder", key, f"{later} began before {earlier} had come to its end")


def _end_of(story: Story, deaths: _Deaths) -> float:
    """When it was first done or given up."""
    done = [each.ended for each in story.tries if each.is_done and each.ended is not None]
    return min([*done, *story.failed], default=float("inf"))


def _tried(story: Story) -> int:
    return len(story.tries)
