"""Column types that mean the same on SQLite, PostgreSQL and MySQL."""

from __future__ import annotations

from base64 import b64decode, b64encode
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Integer, LargeBinary, String, Text
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

RowId = BigInteger().with_variant(Integer(), "sqlite")
"""An autoincrementing key. SQLite counts up by itself only for INTEGER."""

LongText = Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
"""Text of any length; MySQL's TEXT ends at 64 KB."""

LongBinary = LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")
"""Bytes of any length; MySQL's BLOB ends at 64 KB."""

Hash = String(64)
"""A SHA-256 in hexadecimal."""

_ENCODED = "data:;base64,"


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC, to the microsecond: goes in aware, in any zone, and comes out aware, in UTC.

    A naive datetime is refused with ValueError: nobody can tell which moment it means.
    """

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(DateTime(timezone=dialect.name == "postgresql"))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone. Pass an aware datetime, e.g. datetime.now(UTC).")
        utc = value.astimezone(UTC)
        return utc if dialect.name == "postgresql" else utc.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class PayloadText(TypeDecorator[bytes]):
    """A payload: readable text in the store, and byte for byte what it was when it comes back."""

    impl = LongText
    cache_ok = True

    def process_bind_param(self, value: bytes | None, dialect: Dialect) -> str | None:
        return None if value is None else payload_to_text(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> bytes | None:
        return None if value is None else text_to_payload(value)


def payload_to_text(payload: bytes) -> str:
    """JSON is stored as it is; bytes that no text column takes, as a data URL (RFC 2397)."""
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return _encode(payload)
    return _encode(payload) if "\0" in text or text.startswith(_ENCODED) else text


def text_to_payload(text: str) -> bytes:
    return b64decode(text[len(_ENCODED) :]) if text.startswith(_ENCODED) else text.encode()


def storable(text: str) -> str:
    """Text for people that every store takes: PostgreSQL refuses NUL, and none encodes lone surrogates."""
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()


def _encode(payload: bytes) -> str:
    return _ENCODED + b64encode(payload).decode()
