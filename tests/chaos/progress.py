"""How far a run has come, as its ledger tells while it is being written."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import msgspec

from tests.chaos.ledger import Entry, What


class Progress:
    """Each `look` reads what has been added to the ledger since the last."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._offsets: dict[Path, int] = {}
        self._ended: set[str] = set()
        self.entries = 0
        self.accepted = 0
        self.open: dict[str, bool] = {}
        """The ids that were accepted and have not ended, and of each whether it is meant to be given up."""
        self.started: dict[int, int] = {}
        """How many tries each process has begun."""
        self.handled: dict[int, int] = {}
        """How many messages each process has handled."""
        self.last: dict[What, float] = defaultdict(float)
        """When there was an entry of each kind last."""

    def look(self) -> None:
        for file in self._directory.glob("*.jsonl"):
            self._read_on(file)

    def _read_on(self, file: Path) -> None:
        offset = self._offsets.get(file, 0)
        if file.stat().st_size == offset:
            return
        with file.open("rb") as stream:
            stream.seek(offset)
            new = stream.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._offsets[file] = offset + len(whole)
        for line in whole.splitlines():
            self._learn(msgspec.json.decode(line, type=Entry))

    def _learn(self, entry: Entry) -> None:
        self.entries += 1
        self.last[entry.what] = max(self.last[entry.what], entry.at)
        if entry.what == "accepted":
            self.accepted += 1
            if entry.id not in self._ended:
                self.open[entry.id] = entry.fails
        elif entry.what in ("done", "failed"):
            self._ended.add(entry.id)
            self.open.pop(entry.id, None)
        elif entry.what == "started":
            self.started[entry.process] = self.started.get(entry.process, 0) + 1
        elif entry.what == "handled":
            self.handled[entry.process] = self.handled.get(entry.process, 0) + 1
