from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from core.database.engine import Database
from core.observability.events import Events
from core.queue.drivers.database import DatabaseDriver


@pytest.fixture
async def driver(migrated_database_url: str) -> AsyncIterator[DatabaseDriver]:
    driver = DatabaseDriver(Database(migrated_database_url), Events())
    yield driver
    await driver.close()


@pytest.fixture
async def other(migrated_database_url: str) -> AsyncIterator[DatabaseDriver]:
    """What another process has."""
    driver = DatabaseDriver(Database(migrated_database_url), Events())
    yield driver
    await driver.close()
