"""The checker, on made-up ledgers that keep the promises, and on such as break each of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.checker import GRACE, Verdict, check
from tests.chaos.ledger import Entry, Ledger, What, Where, read


class Tale:
    """A made-up ledger. Time goes on by a second with each entry."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.now = 0.0

    def tell(self, what: What, about: str = "", *, process: int = 1, attempt: int = 1, **more: object) -> Tale:
        self.now += 1.0
        self.entries.append(Entry(what, self.now, process, about, attempt=attempt, **more))  # type: ignore[arg-type]
        return self

    def accepted(self, about: str, *, key: str = "", fails: bool = False) -> Tale:
        return self.tell("accepted", about, key=key, fails=fails)

    def ran(
        self,
        about: str,
        *,
        job: str = "",
        process: int = 1,
        attempt: int = 1,
        where: Where = "loop",
        ends: What = "done",
    ) -> Tale:
        self.tell("started", about, job=job, process=process, attempt=attempt, where=where)
        return self.tell(ends, about, job=job, process=process, attempt=attempt)

    def later(self, seconds: float) -> Tale:
        self.now += seconds
        return self

    def verdict(self, **more: object) -> Verdict:
        return check(self.entries, **more)  # type: ignore[arg-type]


def rules(verdict: Verdict) -> list[str]:
    return [finding.rule for finding in verdict.findings]


# ── promises kept ────────────────────────────────────────────────────────────────────────────────────────


def test_a_job_that_is_done_once_is_as_it_should_be() -> None:
    verdict = Tale().accepted("a").tell("handled", "a").ran("a").verdict()
    assert rules(verdict) == []
    assert (verdict.accepted, verdict.done_once, verdict.done_again) == (1, 1, 0)


def test_a_retry_after_an_exception_needs_no_other_explanation() -> None:
    assert rules(Tale().accepted("a").ran("a", ends="raised").ran("a", process=2, attempt=2).verdict()) == []


def test_a_job_that_is_meant_to_fail_is_given_up() -> None:
    tale = Tale().accepted("a", fails=True).ran("a", ends="raised").ran("a", attempt=2, ends="raised")
    verdict = tale.tell("failed", "a").verdict()
    assert rules(verdict) == []
    assert verdict.given_up == 1


def test_a_kill_in_the_middle_of_a_try_explains_the_next() -> None:
    tale = Tale().accepted("a").tell("started", "a").tell("killed", process=1)
    verdict = tale.ran("a", process=2, attempt=2).verdict()
    assert rules(verdict) == []
    assert verdict.kills == 1


def test_a_kill_just_after_a_try_was_done_explains_the_next() -> None:
    tale = Tale().accepted("a").ran("a").tell("killed", process=1).ran("a", process=2, attempt=2)
    verdict = tale.verdict()
    assert rules(verdict) == []
    assert (verdict.done_once, verdict.done_again) == (0, 1)


def test_a_frozen_owner_explains_the_next_try_and_that_it_goes_on_late() -> None:
    tale = Tale().accepted("a").tell("started", "a").tell("frozen", process=1)
    tale.ran("a", process=2, attempt=2).tell("thawed", process=1).tell("done", "a")
    assert rules(tale.verdict()) == []


def test_what_waited_in_a_frozen_process_for_its_turn_begins_when_that_goes_on() -> None:
    tale = Tale().accepted("a").tell("frozen", process=1).tell("started", "a", process=2, attempt=2)
    tale.tell("thawed", process=1).ran("a", where="child").tell("done", "a", process=2, attempt=2)
    assert rules(tale.verdict()) == []


def test_a_try_in_a_thread_after_a_thaw_may_be_the_next_of_tries_made_meanwhile() -> None:
    tale = Tale().accepted("a").tell("frozen", process=1).ran("a", process=2, ends="raised")
    tale.tell("thawed", process=1).ran("a", process=1, attempt=2, where="thread")
    assert rules(tale.verdict()) == []


def test_an_outage_of_the_store_explains_a_repeat() -> None:
    tale = Tale().accepted("a").ran("a").ran("a", process=2, attempt=2)
    assert rules(tale.verdict(outages=[(2.5, 3.5)])) == []
    assert rules(tale.verdict(outages=[(50.0, 60.0)])) == ["unexplained"]


def test_an_outage_of_the_broker_explains_that_a_message_is_handled_again() -> None:
    tale = Tale().accepted("a").tell("handled", "a", process=7).ran("a", job="x")
    tale.tell("handled", "a", process=7).ran("a", job="y", process=2)
    assert rules(tale.verdict(broker_outages=[(2.5, 3.5)])) == []


def test_what_a_stopping_worker_has_cancelled_is_tried_again_uncounted() -> None:
    tale = Tale().accepted("a").tell("started", "a").tell("stopping", process=1).tell("cancelled", "a")
    assert rules(tale.ran("a", process=2).tell("stopped", process=1).verdict()) == []


def test_jobs_of_a_key_one_after_the_other_are_in_order() -> None:
    tale = Tale().accepted("a", key="k").accepted("b", key="k").accepted("c", key="other")
    tale.tell("started", "a").ran("c", process=2).tell("done", "a").ran("b")
    assert rules(tale.verdict()) == []


def test_a_message_that_was_sent_twice_may_be_handled_twice_and_become_one_job() -> None:
    tale = Tale().tell("accepted", "a", once=True).tell("handled", "a", process=7)
    tale.tell("accepted", "a", once=True).tell("handled", "a", process=7)
    assert rules(tale.ran("a").verdict()) == []


def test_one_that_was_sent_and_never_acknowledged_may_arrive() -> None:
    assert rules(Tale().ran("a").verdict(sent={"a"})) == []


def test_a_router_killed_before_its_puback_explains_that_a_message_is_handled_again() -> None:
    tale = Tale().accepted("a").tell("handled", "a", process=7).tell("started", "a", job="x").tell("killed", process=7)
    tale.tell("handled", "a", process=8).tell("started", "a", job="y", process=2)  # beside the first: it is another job
    tale.tell("done", "a", job="x").tell("done", "a", job="y", process=2)
    verdict = tale.verdict()
    assert rules(verdict) == []
    assert verdict.done_again == 1


def test_a_thread_may_outlast_the_grace_of_its_worker_and_is_cut_off_with_it() -> None:
    tale = Tale().accepted("a").tell("started", "a", where="thread").tell("stopping", process=1)
    tale.tell("stopped", process=1).ran("a", process=2, attempt=2)
    assert rules(tale.verdict()) == []


def test_a_thread_may_be_done_when_its_worker_has_given_it_up() -> None:
    tale = Tale().accepted("a").tell("started", "a", where="thread").tell("stopping", process=1)
    tale.tell("done", "a").tell("stopped", process=1).ran("a", process=2, attempt=2)
    assert rules(tale.verdict()) == []


def test_a_child_may_be_killed_by_a_worker_that_stops() -> None:
    tale = Tale().accepted("a").tell("started", "a", where="child").tell("stopping", process=1)
    tale.ran("a", process=2, attempt=2).tell("stopped", process=1)
    assert rules(tale.verdict()) == []


def test_a_row_tells_that_a_job_was_given_up_where_its_worker_was_killed_before_failed() -> None:
    tale = Tale().accepted("a", fails=True).ran("a", ends="raised").tell("killed", process=1)
    verdict = tale.verdict(rows={"a"})
    assert rules(verdict) == []
    assert verdict.given_up == 1


def test_a_job_that_was_done_before_its_push_was_told_again_runs_anew() -> None:
    tale = Tale().tell("handled", "a").ran("a").tell("handled", "a").ran("a", process=2).accepted("a")
    verdict = tale.verdict(answers_lost=[(0.0, 10.0)])
    assert rules(verdict) == []
    assert verdict.done_again == 1


# ── promises broken ──────────────────────────────────────────────────────────────────────────────────────


def test_what_was_accepted_and_never_ran_is_lost() -> None:
    assert rules(Tale().accepted("a").verdict()) == ["lost"]


def test_what_was_begun_and_never_finished_is_lost() -> None:
    tale = Tale().accepted("a").tell("started", "a").tell("killed", process=1)
    assert rules(tale.verdict()) == ["lost"]


def test_what_was_to_be_given_up_and_never_was_is_lost() -> None:
    assert rules(Tale().accepted("a", fails=True).ran("a", ends="raised").verdict()) == ["lost"]


def test_what_was_given_up_without_being_meant_to_is_told() -> None:
    assert rules(Tale().accepted("a").ran("a", ends="raised").tell("failed", "a").verdict()) == ["given up"]


def test_failed_called_for_a_job_without_a_row_is_a_loss() -> None:
    tale = Tale().accepted("a", fails=True).ran("a", ends="raised").tell("failed", "a")
    assert rules(tale.verdict(rows=())) == ["lost"]


def test_a_row_of_a_job_that_is_not_meant_to_fail_is_told() -> None:
    assert rules(Tale().accepted("a").ran("a").verdict(rows={"a"})) == ["given up", "untold"]


def test_a_row_without_a_call_of_failed_is_told() -> None:
    assert rules(Tale().accepted("a", fails=True).ran("a", ends="raised").verdict(rows={"a"})) == ["untold"]


def test_a_worker_that_stops_records_what_is_done() -> None:
    tale = Tale().accepted("a").tell("stopping", process=1).ran("a").tell("stopped", process=1)
    assert rules(tale.ran("a", process=2, attempt=2).verdict()) == ["unexplained"]


def test_a_worker_that_stops_ends_what_runs_on_its_loop() -> None:
    tale = Tale().accepted("a").tell("started", "a").tell("stopping", process=1).tell("stopped", process=1)
    assert rules(tale.ran("a", process=2, attempt=2).verdict()) == ["unexplained"]


@pytest.mark.parametrize("where", ["thread", "child"])
def test_what_ended_before_its_worker_was_asked_to_stop_is_not_repeated(where: Where) -> None:
    tale = Tale().accepted("a").tell("started", "a", where=where).tell("done", "a").tell("stopping", process=1)
    tale.tell("stopped", process=1)
    assert rules(tale.ran("a", process=2, attempt=2).verdict()) == ["unexplained"]


@pytest.mark.parametrize("where", ["thread", "child"])
def test_what_a_stopping_worker_leaves_must_not_run_beside_its_next_try(where: Where) -> None:
    tale = Tale().accepted("a").tell("started", "a", where=where).tell("stopping", process=1)
    tale.tell("started", "a", process=2, attempt=2).tell("done", "a").tell("done", "a", process=2, attempt=2)
    assert rules(tale.tell("stopped", process=1).verdict()) == ["overlap"]


def test_a_message_handled_again_without_a_crash_is_not_explained() -> None:
    tale = Tale().accepted("a").tell("handled", "a", process=7).ran("a", job="x")
    tale.tell("handled", "a", process=7).ran("a", job="y", process=2)
    assert rules(tale.verdict()) == ["unexplained"]


def test_two_jobs_for_a_message_that_was_handled_once_are_not_explained() -> None:
    tale = Tale().accepted("a").tell("handled", "a", process=7).ran("a", job="x").ran("a", job="y", process=2)
    assert rules(tale.verdict()) == ["unexplained"]


def test_two_jobs_for_what_is_to_become_one_are_told() -> None:
    tale = Tale().tell("accepted", "a", once=True).tell("accepted", "a", once=True)
    assert rules(tale.ran("a", job="x").ran("a", job="y", process=2).verdict()) == ["doubled"]


def test_what_nobody_sent_is_invented() -> None:
    assert rules(Tale().ran("a").verdict(sent={"b"})) == ["invented"]


def test_a_repeat_without_a_crash_is_not_explained() -> None:
    assert rules(Tale().accepted("a").ran("a").ran("a", process=2, attempt=2).verdict()) == ["unexplained"]


def test_an_outage_of_the_broker_explains_no_repeat() -> None:
    tale = Tale().accepted("a").ran("a").ran("a", process=2, attempt=2)
    assert rules(tale.verdict(broker_outages=[(2.5, 3.5)])) == ["unexplained"]


def test_a_push_told_again_after_an_outage_has_its_tries_counted_anew() -> None:
    tale = Tale().tell("handled", "a").ran("a", attempt=2).tell("handled", "a").ran("a", process=2).accepted("a")
    assert rules(tale.verdict(outages=[(0.0, 3.5)])) == []
    assert rules(tale.verdict(outages=[(50.0, 60.0)])) == ["unexplained", "miscounted", "unexplained"]


def test_a_job_that_was_given_up_is_pushed_again_with_its_tries_counted_anew_and_one_that_was_not_is_not() -> None:
    def tale(*, is_given_up: bool) -> Tale:
        tale = Tale().accepted("a", fails=True).tell("handled", "a").ran("a", attempt=3, ends="raised")
        if is_given_up:
            tale.tell("failed", "a")
        return tale.tell("handled", "a").ran("a", process=2, ends="raised").tell("failed", "a", process=2)

    assert rules(tale(is_given_up=True).verdict(rows={"a"}, outages=[(0.0, 3.5)])) == []
    assert rules(tale(is_given_up=False).verdict(rows={"a"}, outages=[(0.0, 3.5)])) == ["miscounted"]
    assert "miscounted" in rules(tale(is_given_up=True).verdict(rows={"a"}, outages=[(50.0, 60.0)]))


@pytest.mark.parametrize(("where", "told"), [("loop", ["unexplained", "miscounted"]), ("thread", ["miscounted"])])
def test_a_number_is_given_again_by_what_hands_back_only(where: Where, told: list[str]) -> None:
    tale = Tale().accepted("a").tell("started", "a", where=where).tell("stopping", process=1)
    assert rules(tale.tell("stopped", process=1).ran("a", process=2).verdict()) == told


def test_that_a_worker_cancels_a_try_explains_no_repeat() -> None:
    tale = Tale().accepted("a").ran("a", ends="cancelled").ran("a", process=2, attempt=2)
    assert rules(tale.verdict()) == ["unexplained"]


@pytest.mark.parametrize("ends", ["raised", "killed"])
def test_a_number_that_is_given_twice_is_told(ends: What) -> None:
    tale = Tale().accepted("a").ran("a", attempt=3, ends=ends).ran("a", process=2, attempt=3)
    assert rules(tale.verdict()) == ["miscounted"]


def test_a_kill_long_after_a_try_was_done_explains_nothing() -> None:
    tale = Tale().accepted("a").ran("a").later(GRACE).tell("killed", process=1)
    assert rules(tale.ran("a", process=2, attempt=2).verdict()) == ["unexplained"]


@pytest.mark.parametrize("victim", [2, 3])
def test_the_kill_of_another_process_explains_nothing(victim: int) -> None:
    tale = Tale().accepted("a").ran("a").tell("killed", process=victim)
    assert rules(tale.ran("a", process=4, attempt=2).verdict()) == ["unexplained"]


def test_a_worker_that_goes_on_must_not_begin_what_others_have_taken_over() -> None:
    tale = Tale().accepted("a").tell("frozen", process=1).tell("started", "a", process=2, attempt=2)
    tale.tell("thawed", process=1).ran("a").tell("done", "a", process=2, attempt=2)
    assert rules(tale.verdict()) == ["unexplained", "miscounted", "overlap"]


def test_a_kill_after_the_repeat_explains_nothing() -> None:
    tale = Tale().accepted("a").tell("started", "a").ran("a", process=2, attempt=2).tell("killed", process=1)
    assert rules(tale.verdict()) == ["unexplained", "overlap"]


def test_two_tries_at_the_same_time_overlap() -> None:
    tale = Tale().accepted("a").tell("started", "a").tell("started", "a", process=2, attempt=2)
    tale.tell("raised", "a").tell("done", "a", process=2, attempt=2)
    assert rules(tale.verdict()) == ["overlap"]


def test_a_job_begun_before_an_earlier_one_of_its_key_had_ended_is_out_of_order() -> None:
    tale = Tale().accepted("a", key="k").accepted("b", key="k")
    tale.tell("started", "a").ran("b", process=2).tell("done", "a")
    assert rules(tale.verdict()) == ["disorder"]


def test_a_job_begun_while_an_earlier_one_of_its_key_waits_for_its_retry_is_out_of_order() -> None:
    tale = Tale().accepted("a", key="k").accepted("b", key="k")
    tale.ran("a", ends="raised").ran("b").ran("a", attempt=2)
    assert rules(tale.verdict()) == ["disorder"]


def test_a_lost_answer_explains_no_second_try_of_the_same_push() -> None:
    tale = Tale().accepted("a").ran("a").ran("a", process=2, attempt=2)
    assert rules(tale.verdict(answers_lost=[(0.0, 10.0)])) == ["unexplained"]


def test_a_lost_answer_explains_no_second_job_of_a_message() -> None:
    tale = Tale().accepted("a").tell("handled", "a").ran("a", job="one").tell("handled", "a").ran("a", job="other")
    assert rules(tale.verdict(answers_lost=[(0.0, 10.0)])) == ["unexplained"]


# ── the files ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_ledger_is_read_back_in_the_order_of_time_whichever_file_it_is_in(tmp_path: Path) -> None:
    one, other = Ledger(tmp_path), Ledger(tmp_path)
    one.write("accepted", "a", key="k", fails=True)
    other.write("started", "a", attempt=3)
    one.write("killed", process=7)
    one.close()
    other.close()
    accepted, started, killed = read(tmp_path)
    assert (accepted.what, accepted.id, accepted.key, accepted.fails) == ("accepted", "a", "k", True)
    assert (started.what, started.attempt, killed.process) == ("started", 3, 7)
    assert accepted.at <= started.at <= killed.at


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.write("accepted", "a")
    ledger.close()
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes() + b'{"what":"done","at":1')
    assert [entry.what for entry in read(tmp_path)] == ["accepted"]
