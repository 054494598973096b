"""What is done with failed jobs: list, show, retry, forget, flush, prune."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from typing import Any

import pytest

from core.application import Application
from core.cli import queue_failed
from core.errors import PayloadError
from core.handle_message import FailedMessages
from core.job import Job
from core.mqtt.message import IncomingMessage
from core.queue.failures import DatabaseFailureStore
from core.queue.queue_manager import queue
from core.queue.state import FailedJob, Failure
from tests.unit.cli.conftest import CommandLine

TRACEBACK = 'Traceback (most recent call last):\n  File "a.py", line 1\nValueError: no such address\n'


class SendEmail(Job):
    queue = "emails"
    to: str = "a@example.com"


async def fail_three(app: Application) -> list[str]:
    """Fail three jobs, the first of them of queue `emails`; their job ids, in order."""
    ids = await queue.bulk([SendEmail()]) + await queue.bulk([SendEmail(), SendEmail()], queue="other")
    driver = app.queues.driver()
    fetched = await driver.fetch(["emails", "other"], 10, 60.0)
    failures = [Failure(each.job_id, each.queue, "SendEmail", each.payload, TRACEBACK, 3) for each in fetched]
    await driver.fail([(each.lease, failure) for each, failure in zip(fetched, failures, strict=True)])
    return ids


@pytest.fixture
def ids(run: CommandLine) -> list[str]:
    return run.inside(fail_three)


def failed_ids(run: CommandLine) -> set[str]:
    return {row["job_id"] for row in run("queue-failed", "--json").json()}


def available(run: CommandLine) -> dict[str, int]:
    return {row["queue"]: row["available"] for row in run("queue-stats", "--json").json() if row["available"]}


# ── list and show ────────────────────────────────────────────────────────────────────────────────────────


def test_failed_jobs_are_listed_whole_as_json(run: CommandLine, ids: list[str]) -> None:
    rows = run("--queue-failed", "--json").json()
    assert {row["job_id"] for row in rows} == set(ids)
    row = next(row for row in rows if row["job_id"] == ids[0])
    assert row.keys() >= {"id", "job_id", "connection", "queue", "job", "exception", "attempts", "failed_at"}
    assert (row["connection"], row["queue"], row["job"], row["attempts"]) == ("database", "emails", "SendEmail", 3)
    assert row["exception"] == TRACEBACK
    assert datetime.fromisoformat(row["failed_at"]).utcoffset() == timedelta(0)
    assert json.loads(row["payload"])["data"] == {"to": "a@example.com"}


def test_the_newest_comes_first_and_the_list_may_be_cut(run: CommandLine, ids: list[str]) -> None:
    rows = run("queue-failed", "--json").json()
    assert [row["id"] for row in rows] == sorted((row["id"] for row in rows), reverse=True)
    assert run("queue-failed", "--json", "--limit", "2").json() == rows[:2]


def test_the_list_may_be_of_one_queue(run: CommandLine, ids: list[str]) -> None:
    assert {row["queue"] for row in run("--queue", "other", "--queue-failed", "--json").json()} == {"other"}
    assert run("queue-failed", "--queue", "empty").out == "None.\n"


def test_the_table_shows_the_last_line_of_each_traceback(run: CommandLine, ids: list[str]) -> None:
    head, *lines = run("queue-failed").out.splitlines()
    assert head.split() == ["id", "failed_at", "connection", "queue", "job", "attempts", "exception"]
    assert len(lines) == 3
    assert all(line.endswith("ValueError: no such address") for line in lines)


async def fail_messages(app: Application) -> None:
    """One that is text and one that is not, with an error of two lines."""
    messages = FailedMessages(app.failures, "database", "default")
    await messages.record(
        IncomingMessage("fleet/saw/1", '{"°C": "x"}'.encode()), PayloadError("wrong\nindeed"), 3, "m1"
    )
    await messages.record(IncomingMessage("fleet/saw/2", b"\xff\x00"), PayloadError("no"), 3, "m2")


def test_of_a_message_the_table_shows_the_topic_and_of_a_long_text_the_first_line(run: CommandLine) -> None:
    run.inside(fail_messages)
    second, first = run("queue-failed").out.splitlines()[1:]
    assert "  message fleet/saw/2  " in second
    assert first.endswith("core.errors.PayloadError: wrong")
    assert re.search(r"\d\d:\d\d:\d\dZ  database    default  message fleet/saw/1  3  ", first)


def test_a_message_is_shown_with_topic_and_payload_and_the_traceback_last(run: CommandLine) -> None:
    run.inside(fail_messages)
    text = run("queue-show", "m1").out
    assert '\ntopic: fleet/saw/1\npayload: {"°C": "x"}\nreason: core.errors.PayloadError: wrong\nexception:\n' in text
    assert text.endswith("core.errors.PayloadError: wrong\nindeed\n\n")
    assert "\npayload: ff 00 (hexadecimal: it is no UTF-8)\n" in run("queue-show", "m2").out


@pytest.mark.parametrize("by", ["id", "job_id"])
def test_show_finds_a_job_by_either_id(run: CommandLine, ids: list[str], by: str) -> None:
    row = run("queue-failed", "--json").json()[0]
    assert run("--queue-show", str(row[by]), "--json").json() == row
    text = run("--queue-show", str(row[by])).out
    assert f"exception:\n{TRACEBACK}" in text
    assert f"job_id: {row['job_id']}\n" in text


@pytest.mark.parametrize("command", ["queue-show", "queue-retry", "queue-forget"])
@pytest.mark.parametrize("key", ["999", "0190-nobody", "'; DROP TABLE jobs; --", "\U0001f680"])
def test_a_job_that_is_not_there_is_named_with_the_remedy(
    run: CommandLine, ids: list[str], command: str, key: str
) -> None:
    result = run(command, key)
    assert (result.code, result.out) == (1, "")
    nothing = {"queue-show": "", "queue-retry": " Nothing was put back.", "queue-forget": " Nothing was deleted."}
    assert result.err == (
        f"Error: There is no failed job {key!r}; `python main.py --queue-failed` lists those there are."
        f"{nothing[command]}\n"
    )
    assert failed_ids(run) == set(ids)


def test_a_payload_that_is_no_text_is_shown_all_the_same(run: CommandLine) -> None:
    async def record(app: Application) -> None:
        await app.failures.record("database", [Failure("x", "emails", "", b'{"v": \xff', "EnvelopeError: no", 1)])

    run.inside(record)
    assert run("queue-show", "x", "--json").json()["payload"] == '{"v": \\xff'


# ── retry ────────────────────────────────────────────────────────────────────────────────────────────────


def test_retry_puts_one_job_back(run: CommandLine, ids: list[str]) -> None:
    result = run("--queue-retry", ids[0])
    assert (result.code, result.out, result.err) == (0, "", "Put back 1 failed job.\n")
    assert failed_ids(run) == set(ids[1:])
    assert available(run) == {"emails": 1}


def test_retry_all_puts_every_job_back_once(run: CommandLine, ids: list[str]) -> None:
    assert run("--queue-retry=all").err == "Put back 3 failed jobs.\n"
    assert run("--queue-retry", "all").err == "Put back 0 failed jobs.\n"
    assert failed_ids(run) == set()
    assert available(run) == {"emails": 1, "other": 2}


def test_a_job_put_back_is_as_it_was_with_no_tries_counted(run: CommandLine, ids: list[str]) -> None:
    before = run("queue-show", ids[0], "--json").json()["payload"]
    run("queue-retry", ids[0])
    (fetched,) = run.inside(lambda app: app.queues.driver().fetch(["emails"], 10, 60.0))
    assert (fetched.job_id, fetched.attempts, fetched.payload.decode()) == (ids[0], 1, before)


def test_retry_of_a_connection_that_is_not_there_is_an_error_and_keeps_the_row(run: CommandLine) -> None:
    async def record(app: Application) -> None:
        await app.failures.record("sqs", [Failure("x", "emails", "", b"{}", "no", 1)])

    run.inside(record)
    result = run("queue-retry", "x")
    assert result.code == 1
    assert "There is no queue connection 'sqs'" in result.err
    assert failed_ids(run) == {"x"}


def test_retry_says_which_jobs_went_back_to_another_connection(
    run: CommandLine, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUEUE_CONNECTION", "redis")
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1")  # of which nothing is wanted
    assert run("queue-retry", *ids[:2]).err == (
        "2 jobs went back on the connection database, which QUEUE_CONNECTION=redis does not name: "
        "a worker runs them with --connection database.\nPut back 2 failed jobs.\n"
    )
    monkeypatch.setenv("QUEUE_CONNECTION", "database")
    assert available(run) == {"emails": 1, "other": 1}


def test_several_may_be_named_and_each_is_put_back_once(run: CommandLine, ids: list[str]) -> None:
    assert run("--queue-retry", ids[0], ids[1], ids[0]).err == "Put back 2 failed jobs.\n"
    assert failed_ids(run) == {ids[2]}


def test_where_one_of_several_is_not_there_the_others_stay(run: CommandLine, ids: list[str]) -> None:
    for command in ("queue-retry", "queue-forget"):
        assert run(command, ids[0], "999").code == 1
        assert failed_ids(run) == set(ids)


def test_all_may_be_those_of_one_queue(run: CommandLine, ids: list[str]) -> None:
    assert run("--queue-retry", "all", "--queue", "other").err == "Put back 2 failed jobs.\n"
    assert failed_ids(run) == {ids[0]}


@pytest.mark.parametrize("words", [["all", "7"], ["7", "--queue", "emails"]], ids=" ".join)
def test_all_and_ids_do_not_go_together(run: CommandLine, words: list[str]) -> None:
    result = run("queue-retry", *words)
    assert (result.code, "or the ids of failed jobs" in result.err) == (2, True)


# ── many ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def small_pages(run: CommandLine, ids: list[str], monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool]]:
    """Pages of two; how many rows were loaded at once, and whether with payloads."""
    monkeypatch.setattr(queue_failed, "_PAGE", 2)
    loaded: list[tuple[int, bool]] = []
    rows = DatabaseFailureStore.rows

    async def spied(self: DatabaseFailureStore, **options: Any) -> list[FailedJob]:
        found = await rows(self, **options)
        loaded.append((len(found), any(row.payload for row in found)))
        return found

    monkeypatch.setattr(DatabaseFailureStore, "rows", spied)
    return loaded


@pytest.mark.parametrize(
    ("words", "payloads"),
    [(["queue-failed"], False), (["queue-failed", "--json"], True), (["queue-retry", "all"], True)],
)
def test_rows_are_loaded_a_page_at_a_time_and_payloads_where_they_are_of_use(
    run: CommandLine, small_pages: list[tuple[int, bool]], words: list[str], payloads: bool
) -> None:
    assert run(*words).code == 0
    assert small_pages == [(2, payloads), (1, payloads)]


def test_a_list_of_several_pages_is_one(run: CommandLine, small_pages: list[tuple[int, bool]], ids: list[str]) -> None:
    assert [row["job_id"] for row in run("queue-failed", "--json").json()] == ids[::-1]
    assert len(run("queue-failed").out.splitlines()) == 1 + len(ids)
    assert len(run("queue-failed", "--json", "--limit", "2").json()) == 2


def test_no_failed_jobs_are_an_empty_list(run: CommandLine) -> None:
    assert run("queue-failed", "--json").json() == []


def test_retry_all_puts_every_page_back(run: CommandLine, small_pages: list[tuple[int, bool]], ids: list[str]) -> None:
    assert run("queue-retry", "all").err == "Put back 3 failed jobs.\n"
    assert available(run) == {"emails": 1, "other": 2}


# ── delete ───────────────────────────────────────────────────────────────────────────────────────────────


def test_forget_deletes_one(run: CommandLine, ids: list[str]) -> None:
    assert run("--queue-forget", ids[0]).err == "Deleted 1 failed job.\n"
    assert failed_ids(run) == set(ids[1:])


def test_forget_deletes_several(run: CommandLine, ids: list[str]) -> None:
    assert run("--queue-forget", *ids[:2]).err == "Deleted 2 failed jobs.\n"
    assert failed_ids(run) == {ids[2]}


def test_flush_deletes_all(run: CommandLine, ids: list[str]) -> None:
    assert run("--queue-flush").err == "Deleted 3 failed jobs.\n"
    assert failed_ids(run) == set()


def test_prune_deletes_what_is_older_than_so_many_hours(run: CommandLine, ids: list[str]) -> None:
    assert run("--queue-prune").err == "Deleted 0 failed jobs.\n"
    assert run("--queue-prune", "--hours", "1").err == "Deleted 0 failed jobs.\n"
    assert run("--queue-prune", "--hours", "0").err == "Deleted 3 failed jobs.\n"
