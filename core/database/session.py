"""A session of SQLAlchemy's that says when the server is away, as the rest of RouteMQ does."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, NoReturn

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from core.database.error_kinds import is_unreachable


class Session(AsyncSession):
    """An AsyncSession; an error that leaves its `async with` block is UnavailableError where the server is away."""

    def __init__(self, *args: Any, explain: Callable[[Exception], NoReturn], **options: Any) -> None:
        super().__init__(*args, **options)
        self._explain = explain

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await super().__aexit__(kind, error, trace)
        except SQLAlchemyError as closing:
            error = error or closing
            if not is_unreachable(closing):
                raise
        if isinstance(error, SQLAlchemyError) and is_unreachable(error):
            self._explain(error)
