"""The declarative base of the app's models, and how they reach the database of the open Application."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar, Self

from sqlalchemy import JSON, MetaData, String, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase

from core.database.bound import bound_database
from core.database.columns import LongBinary, UtcDateTime
from core.database.tables import NAMING


class Model(DeclarativeBase):
    """A table of the app: a subclass in app/models, with `__tablename__` and annotated columns.

    A `datetime` is stored in UTC and comes back aware; a `str` without a length holds 255 characters.
    """

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: String(255),
        bytes: LongBinary,
        datetime: UtcDateTime,
        dict[str, Any]: JSON,
        list[Any]: JSON,
    }

    @classmethod
    async def get_session(cls) -> AsyncSession:
        """A session, to be used as `async with await Model.get_session() as session:`.

        What is not committed is rolled back at the end of the block. Raises NotRunningError outside of any
        Application.
        """
        return bound_database().session()

    @classmethod
    async def find(cls, key: Any) -> Self | None:
        """The row with this primary key."""
        async with await cls.get_session() as session:
            return await session.get(cls, key)

    @classmethod
    async def all(cls) -> list[Self]:
        """Every row. For a table that may grow large, select what is needed through a session."""
        async with await cls.get_session() as session:
            return list(await session.scalars(select(cls)))

    @classmethod
    async def create(cls, **values: Any) -> Self:
        """Store a row, and return it with what the database filled in."""
        async with await cls.get_session() as session:
            row = cls(**values)
            session.add(row)
            await session.commit()
            await session.refresh(row)
            return row
