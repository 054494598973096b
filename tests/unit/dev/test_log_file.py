from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.dev.log_file import log_to_file
from core.observability.logging import configure_logging


@pytest.fixture
def own_handlers() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:]
    root.handlers = []
    yield
    for each in root.handlers:
        each.close()
    root.handlers = before


@pytest.mark.usefixtures("own_handlers")
def test_lines_go_to_the_file_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "text")
    file = tmp_path / "storage" / "dev.log"
    log_to_file(file)
    logging.getLogger("routemq").info("something happened")
    assert file.read_text().endswith(" INFO    routemq: something happened\n")
    assert capsys.readouterr() == ("", "")
