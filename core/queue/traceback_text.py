"""An exception as failed_jobs holds it: in characters that every store takes."""

from __future__ import annotations

import traceback


def traceback_text(exception: BaseException) -> str:
    """The whole traceback, causes included."""
    return encodable("".join(traceback.format_exception(exception)))


def encodable(text: str) -> str:
    """`text` without lone surrogates, which file names and messages may hold (`os.fsdecode`) and no store takes."""
    return text.encode("utf-8", "backslashreplace").decode()
