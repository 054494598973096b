"""A job that blocks its worker's event loop keeps its lease, on every store: nobody else may start it."""

from __future__ import annotations

from tests.acceptance.conftest import dispatch
from tests.acceptance.program import Site
from tests.acceptance.sample_app.jobs.work import BlocksLoop, Record

LEASE = 1.0


async def test_pitfall_27_a_job_that_blocks_the_loop_for_three_leases_runs_once(site: Site) -> None:
    site.env |= {"QUEUE_LEASE": str(LEASE), "QUEUE_BLOCKED_LOOP_WARNING": "1"}
    await dispatch(site, BlocksLoop(seconds=3 * LEASE))
    with site.start("--queue-work") as blocked:
        site.wait_for("blocking")
        with site.start("--queue-work") as other:
            await dispatch(site, Record(n=1))
            site.wait_for("recorded")
            site.wait_for("blocked")
            blocked.says("completed tests.acceptance.sample_app.jobs.work.BlocksLoop")
            other.stop()
        blocked.stop()
    assert [entry["attempts"] for entry in site.entries("blocking")] == [1]
    assert "rescued" not in other.stderr and "rescued" not in blocked.stderr
    assert "blocks the event loop for more than 1 s" in blocked.stderr
    assert "time.sleep(self.seconds)" in blocked.stderr
