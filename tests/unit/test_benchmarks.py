"""The benchmark suite's own parts: what it counts, what it writes, and that every bar can be measured."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import machine
from benchmarks.__main__ import ROWS, _quick
from benchmarks.bars import BARS
from benchmarks.chart import LEGEND, chart
from benchmarks.command_line import parse
from benchmarks.environments import HERE
from benchmarks.inside.tally import Tally
from benchmarks.report import NOTES, Report
from benchmarks.row import Figures, Medians, Result, Results
from benchmarks.rows.growth import GROWTH, IDLE_MB
from benchmarks.rows.pickup import P50, P99
from benchmarks.stage import resident

UNITS = {"pickup": [P50, P99], "memory-worker": [IDLE_MB, GROWTH]}


def figures(row: str) -> Figures:
    units = next((units for name, units in UNITS.items() if row.startswith(name)), ["jobs/s"])
    return dict.fromkeys(units, 7.0)


@pytest.fixture
def results() -> Results:
    """As if each entry had been measured once."""
    return {row.name: [Result(each.label, each.contender, [figures(row.name)]) for each in row.entries] for row in ROWS}


def written(results: Results, notes: Path | None = None) -> Report:
    rows = [row for row in ROWS if row.name in results]
    return Report(rows, results, {"processor": "fast, 2 cores"}, 3, False, [0.5], notes)


def test_every_bar_has_a_value_once_all_rows_are_measured(results: Results) -> None:
    medians = Medians(results)
    assert [bar.text for bar in BARS if bar.value(medians) is None] == []


def test_a_backlog_is_compared_with_that_of_the_same_round(results: Results) -> None:
    for each in results["backlog-redis"]:
        each.runs = [{"jobs/s": 10.0}] if each.label.startswith("1,000,000") else [{"jobs/s": 20.0}, {"jobs/s": 5.0}]
    (bar,) = [bar for bar in BARS if bar.row == "backlog-redis"]
    assert bar.value(Medians(results)) == 0.5


def test_the_command_of_a_bar_measures_all_that_it_takes(results: Results) -> None:
    for bar in BARS:
        measured = {name: each for name, each in results.items() if re.search(bar.only or bar.row, name)}
        assert bar.value(Medians(measured)) is not None, bar.text


def test_a_quick_run_is_of_what_there_is_time_for() -> None:
    quick = _quick(ROWS)
    assert all(entry.quick for row in quick for entry in row.entries)
    assert "worker-redis" in {row.name for row in quick}
    assert "worker-mysql" not in {row.name for row in quick}


def test_the_report_tells_bars_rows_commands_and_machine(results: Results) -> None:
    text = written(results).markdown()
    assert "| one by one on Redis | ≥ 1 x the best peer |  | 1 x | met | `scripts/bench --only dispatch-one-r" in text
    assert "| Redis, no-op jobs | ≥ 10 x the best peer | 15 x | 1 x | **missed** |" in text
    assert all(f"## {row.title}" in text for row in ROWS)
    assert "| processor | fast, 2 cores |" in text


def test_what_a_run_cannot_tell_stands_under_its_row(results: Results, tmp_path: Path) -> None:
    (tmp_path / "worker-redis.md").write_text("Half of the time is Redis'.\n")
    text = written(results, tmp_path).markdown()
    section = text.partition("## Worker, no-op jobs, one process: Redis\n")[2].partition("\n## ")[0]
    assert section.endswith("\n\nHalf of the time is Redis'.\n")


def test_notes_are_about_the_results_that_they_lie_beside(results: Results) -> None:
    assert any(HERE.joinpath(NOTES).glob("processes.md"))
    text = written(results).markdown()
    assert "rounds of 1.56" not in text
    assert "says why" not in text


def test_a_missed_bar_without_a_note_is_named(results: Results, tmp_path: Path) -> None:
    (tmp_path / "worker-redis.md").write_text("Half of the time is Redis'.")
    some = {name: results[name] for name in ("worker-redis", "worker-sqlite", "dispatch-one-redis")}
    text = written(some, tmp_path).markdown()
    assert "\n\nMissed, and no note yet: worker-sqlite.\n\n" in text
    assert "says why" not in text


def test_where_each_missed_bar_has_a_note_the_report_says_so(results: Results, tmp_path: Path) -> None:
    (tmp_path / "worker-redis.md").write_text("Half of the time is Redis'.")
    text = written({"worker-redis": results["worker-redis"]}, tmp_path).markdown()
    assert "Where a bar is missed, a note under its row says why.\n" in text
    assert "no note yet" not in text


def test_where_no_bar_is_missed_the_report_speaks_of_no_note(results: Results, tmp_path: Path) -> None:
    text = written({"dispatch-one-redis": results["dispatch-one-redis"]}, tmp_path).markdown()
    assert "| met |" in text
    assert "says why" not in text
    assert "no note yet" not in text


def test_a_machine_that_was_busy_is_told_of_at_the_top(results: Results) -> None:
    calm = written(results)
    busy = replace(calm, loads=[3.5, 0.1])
    warning = "The machine was busy before the run began: a load average of 3.50 on 2 cores."
    assert warning in busy.markdown().partition("## The bars")[0]
    assert "busy" not in calm.markdown()
    assert machine.loaded(2.0, 2) == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--rounds", "0"], "'0' is no whole number from 1"),
        (["--rounds", "few"], "'few' is no whole number from 1"),
        (["--only", "["], "'[' is no regular expression"),
        (["--only", "worker-oracle"], "no such row. There are: worker-redis, "),
        (["--python", "nosuch"], "'nosuch' is no Python >= 3.11"),
        (["--report", "/nowhere"], "there is no results.json in '/nowhere'"),
        (["--output", "/dev/null/x"], "'/dev/null/x' cannot be written to: Not a directory"),
        (["--output", "/proc"], "'/proc' cannot be written to: "),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_measured(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse(ROWS, arguments)
    assert told in capsys.readouterr().err


def test_the_help_tells_the_rows_and_where_results_go(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        parse(ROWS, ["--help"])
    told = capsys.readouterr().out
    assert all(row.name in told for row in ROWS)
    assert "replaces benchmarks/RESULTS.md" in told


def strays(notes: Path) -> set[str]:
    """The notes that stand under no row."""
    return {file.name for file in notes.glob("*")} - {f"{row.name}.md" for row in ROWS}


def test_every_note_belongs_to_a_row() -> None:
    assert strays(HERE / NOTES) == set()


def test_a_note_that_belongs_to_no_row_is_found(tmp_path: Path) -> None:
    for name in ("worker-redis.md", "worker-reddis.md", "worker-redis.txt"):
        (tmp_path / name).touch()
    assert strays(tmp_path) == {"worker-reddis.md", "worker-redis.txt"}


def test_a_run_that_failed_is_told_beside_those_that_count(results: Results) -> None:
    results["worker-redis"][1].error = "2 jobs did not run"
    assert "(a run failed: 2 jobs did not run)" in written(results).markdown()
    results["worker-redis"][1].runs.clear()
    assert "not measured: 2 jobs did not run" in written(results).markdown()


def test_the_data_holds_every_run_and_every_verdict(results: Results) -> None:
    data = json.loads(written(results).json())
    assert data["rows"]["worker-redis"][0]["runs"] == [{"jobs/s": 7.0}]
    assert {bar["met"] for bar in data["bars"]} == {True, False}


def test_the_report_can_be_written_anew_from_its_data(results: Results) -> None:
    del results["worker-mysql"]
    assert Report.read(ROWS, written(results).json()).markdown() == written(results).markdown()


def test_the_chart_sets_us_beside_peers_and_names_the_unit(results: Results) -> None:
    drawing = ET.fromstring(chart(ROWS, results))
    texts = {each.text for each in drawing.iter() if each.tag.endswith("text")}
    assert {"Worker, no-op jobs, one process: Redis (jobs/s)", "RouteMQ", "celery", *LEGEND.values()} <= texts
    assert not any(text and "Idle pickup" in text for text in texts)  # there are none but ours
    assert set(LEGEND) < {each.get("fill") for each in drawing.iter() if each.tag.endswith("rect")}


def test_the_tally_tells_what_ran_and_how_often(tmp_path: Path) -> None:
    tally = Tally.create(str(tmp_path / "tally"), 3)
    tally.ran(0)
    tally.ran(2)
    assert tally.done(0, 3) == 2
    tally.ran(1)
    assert tally.each_once(0, 3)
    tally.ran(1)
    assert not tally.each_once(0, 3)
    assert tally.seconds(0, 3) > 0


def test_the_tally_is_no_part_of_a_process_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smaps = [
        "00400000-00b00000 r--p 00000000 fe:00 1  /usr/bin/python3.13",
        "Rss:                2048 kB",
        "7f0000000000-7f0000900000 rw-s 00000000 fe:00 2  /tmp/routemq-bench-x/tally",
        "Rss:                9000 kB",
        "VmFlags: rd wr sh",
        "7f0000a00000-7f0000b00000 rw-p 00000000 00:00 0",
        "Rss:                1024 kB",
    ]
    monkeypatch.setattr(Path, "read_text", lambda _: "\n".join(smaps))
    assert resident(1) == 3
