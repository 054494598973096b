"""`Dockerfile` makes a small image that does not run as root, from what is locked."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[2]

Instruction = tuple[str, str]


def stages() -> list[list[Instruction]]:
    """The instructions, by stage: each begins with its FROM."""
    found: list[list[Instruction]] = []
    for word, rest in instructions():
        if word == "FROM":
            found.append([])
        found[-1].append((word, rest))
    return found


def instructions() -> list[Instruction]:
    text = re.sub(r"(?m)^\s*#.*\n", "", (ROOT / "Dockerfile").read_text()).replace("\\\n", " ")
    words = (line.partition(" ") for line in text.splitlines() if line.strip())
    return [(word.upper(), " ".join(rest.split())) for word, _, rest in words]


def last(word: str) -> str:
    """What holds in the image: the final stage's last instruction of this kind."""
    return [rest for each, rest in stages()[-1] if each == word][-1]


def test_it_does_not_run_as_root() -> None:
    user = last("USER")

    # A number, so that Kubernetes' runAsNonRoot can see it as well.
    assert int(user) > 0
    assert f"--uid {user} " in last_run_with("useradd")
    assert [word for word, _ in stages()[-1]].index("USER") < [word for word, _ in stages()[-1]].index("ENTRYPOINT")


def test_signals_reach_python_itself() -> None:
    assert json.loads(last("ENTRYPOINT")) == ["python", "main.py"]
    assert last("STOPSIGNAL") == "SIGTERM"


def test_only_what_is_locked_is_installed() -> None:
    installs = [rest for word, rest in instructions() if word == "RUN" and "pip install" in rest]

    assert [each for each in installs if "--require-hashes -r requirements.lock" not in each] == []
    assert len(installs) == 1


def test_it_is_small() -> None:
    bases = [rest.split()[0] for stage in stages() for word, rest in stage if word == "FROM"]
    final = " ".join(rest for _, rest in stages()[-1])

    assert len(stages()) > 1
    assert all(base.endswith("-slim") for base in bases)
    assert not re.search(r"pip install|apt-get|gcc|build-essential", final)


def test_the_lock_is_copied_before_the_code_so_that_its_layer_is_reused() -> None:
    first = stages()[0]

    assert [a[0] for a, b in pairwise(first) if "pip install" in b[1]] == ["COPY"]
    assert ("COPY", ". .") not in first


def last_run_with(word: str) -> str:
    return [rest for each, rest in stages()[-1] if each == "RUN" and word in rest][-1]
