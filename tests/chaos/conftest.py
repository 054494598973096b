"""`chaos_servers`: servers that a run may kill and freeze, started once in each process of the tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.stores import ChaosServers


@pytest.fixture(scope="session")
def chaos_servers() -> Iterator[ChaosServers]:
    with ChaosServers() as servers:
        yield servers
