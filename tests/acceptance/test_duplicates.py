"""A message that is delivered again, or sent again, whose route knows it."""

from __future__ import annotations

from tests.acceptance.conftest import publish
from tests.acceptance.program import Site


async def test_a_message_that_is_delivered_and_sent_again_has_its_job_done_once(
    site: Site, broker_of_choice: dict[str, str]
) -> None:
    site.env |= broker_of_choice
    with site.start() as router:
        router.says("connected to the MQTT broker")
        await publish(site, [("once", b"1"), ("once", b"2")])
        site.wait_for("dispatched", 2)
        router.kill()
    site.open_gate()
    with site.start() as router:
        site.wait_for("handled", 2)
        await publish(site, [("once", b"1")])
        site.wait_for("handled", 3)
        router.stop()
    site.run("--queue-work", "--queue", "a", "--stop-when-empty")
    assert sorted(entry["n"] for entry in site.entries("recorded")) == [1, 2]
    assert len(site.entries("dispatched")) >= 5
