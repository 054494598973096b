"""What `scripts/bench` can be told, and what it refuses before anything is measured."""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile

from benchmarks.environments import CACHE, HERE, ROOT, is_usable
from benchmarks.row import Row

ROUNDS = 3
LATEST, RESULTS = HERE / ".latest", "results.json"


def parse(rows: Sequence[Row], arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options, `only` as the rows that it names. What is wrong with them ends the program with code 2."""
    parser = _parser(rows)
    options = parser.parse_args(arguments)
    options.only = [row for row in rows if options.only.search(row.name)]
    if not options.only:
        parser.error(f"argument --only: no such row. There are: {', '.join(row.name for row in rows)}.")
    options.rounds = options.rounds or (1 if options.quick else ROUNDS)
    return options


def _parser(rows: Sequence[Row]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measures RouteMQ and its peers, and writes what came out.",
        epilog=_epilog(rows),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="within 3 minutes: one round, fewer jobs, fewer peers")
    parser.add_argument(
        "--only",
        metavar="PATTERN",
        type=_pattern,
        default="",
        help="the rows whose name contains this regular expression",
    )
    parser.add_argument("--rounds", type=_rounds, help=f"rounds; the medians count. Default: {ROUNDS}, with --quick 1")
    parser.add_argument("--output", type=_folder, metavar="DIRECTORY", help="where to write the results")
    parser.add_argument(
        "--report",
        type=_results,
        metavar="DIRECTORY",
        help="measure nothing: write the report there anew, with its notes",
    )
    parser.add_argument(
        "--python", type=_python, help="the Python that all contenders run on. Default: the newest at hand"
    )
    return parser


def _epilog(rows: Sequence[Row]) -> str:
    names = textwrap.fill(", ".join(row.name for row in rows), 100, break_on_hyphens=False)
    here, latest, cache = (path.relative_to(ROOT) for path in (HERE, LATEST, CACHE))
    return (
        f"A run of all rows, without --quick, replaces {here}/RESULTS.md, {RESULTS} and the chart; any other writes\n"
        f"to {latest}/. The peers' packages, installed once, take 0.6 GB in {cache}/.\n\nRows:\n{names}"
    )


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from None


def _rounds(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)


def _folder(text: str) -> Path:
    """Made now: not to find after half an hour that it cannot be."""
    path = Path(text)
    try:
        path.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=path).close()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be written to: {error.strerror}") from None
    return path


def _results(text: str) -> Path:
    path = Path(text)
    if not (path / RESULTS).is_file():
        raise argparse.ArgumentTypeError(
            f"there is no {RESULTS} in {text!r}; name the folder that a run was written to"
        )
    return path


def _python(text: str) -> str:
    if not is_usable(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no Python >= 3.11 with venv")
    return text
