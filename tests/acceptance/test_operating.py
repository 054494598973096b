"""What docs/operating.md tells an operator to do helps."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.acceptance.conftest import broker_settings, publish, until_queued
from tests.acceptance.program import PATIENCE, ROOT, Site
from tests.servers.mosquitto import MosquittoProcess


async def test_a_filter_is_taken_out_of_a_session_and_what_waits_stays(
    sqlite_site: Site, restartable_mosquitto: MosquittoProcess, unique: str
) -> None:
    """On mosquitto: the embedded broker keeps no session for longer than it runs."""
    site = sqlite_site
    site.env |= broker_settings(restartable_mosquitto)
    with site.start() as router:
        router.says("connected to the MQTT broker")
        router.stop()
    await publish(site, [("numbers", str(n)) for n in range(30)])  # more than a broker sends without a PUBACK
    assert _forget_filters(site, unique, f"{unique}/raw", f"{unique}/never") == ["Success", "No subscription found"]
    await publish(site, [("raw", b"nobody subscribes to it"), ("numbers", "30")])
    with site.start() as router:
        await until_queued(site, 31, "a", "b")
        router.stop()
    assert site.entries("raw") == []


def _forget_filters(site: Site, *arguments: str) -> list[str]:
    """Run the program that the document prints; the lines that it prints."""
    document = (ROOT / "docs" / "operating.md").read_text()
    (program,) = re.findall(r"^```python\n(# forget_filters.py.*?)^```$", document, re.MULTILINE | re.DOTALL)
    (site.directory / "forget_filters.py").write_text(program)
    ran = subprocess.run(
        [sys.executable, "forget_filters.py", *arguments],
        cwd=site.directory,
        env=site.env,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()
