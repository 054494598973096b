"""An exception as failed_jobs holds it."""

from __future__ import annotations

import traceback


def traceback_text(exception: BaseException) -> str:
    """The whole traceback, causes included, in characters that every store takes.

    File names and messages may hold lone surrogates (`os.fsdecode`), which no store does.
    """
    text = "".join(traceback.format_exception(exception))
    return text.encode("utf-8", "backslashreplace").decode()
