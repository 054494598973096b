"""Valid input made wrong: bytes that were flipped, cut, doubled and put elsewhere, and JSON with other values in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

_NUMBERS = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF]
_TOKENS = [
    *(b"", b"\0", b"\xff", b"\xff\xff\xff\x7f", b"\x80\x80\x80\x80", b"\xc3\x28", b"\xed\xa0\x80", b"\xef\xbb\xbf"),
    *(b"{", b"}", b"[", b"]", b'"', b"\\", b"\\u0000", b"\\ud800", b"null", b"NaN", b"1e999", b"-", b",", b":"),
    *(b"+", b"#", b"/", b"$", b"$share/", b"%s", b"{}", b"\n", b"\r", b"'", b";", b"data:;base64,"),
    *(b"1" * 5000, b"[" * 3000, b'{"a":' * 1500, b"a" * 70_000),
]
_HOSTILE: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**31, 2**53 + 1, 2**64, -(2**63) - 1, 10**300, 10**4000, 0.1, -0.0, 1e308, 1e-320),
    *("", "a", "\0", "\ud800", "\udfff\ud800", "é", "\U0001f680", "1", "null", "AA==", "*", "2026-01-01T00:00:00Z"),
    *("2026-13-01", "9999-12-31T23:59:59+23:59", "P999999999D", "NaN", "sNaN", "1e999999999", "x" * 40_000, "../etc"),
    *([], {}, [[]], [{}], [None] * 50, {"": None}, {"a": {"b": [1]}}, {"\ud800": 1}),
    *(
        {"$bytes": "*"},
        {"$bytes": None},
        {"$dict": [[[], 1]]},
        {"$set": [[]]},
        {"$timedelta": [1e308]},
        {"$class": "os"},
    ),
    *({"$decimal": "1E+999999999"}, {"$float": "x"}, {"$tuple": {}}, {"$datetime": "0"}, {"$uuid": 7}, {"$": 0}),
]


class Mutator:
    def __init__(self, random: Random) -> None:
        self._random = random
        self._changes: list[Callable[[bytearray], None]] = [
            *[self._flip, self._set, self._number, self._delete, self._insert, self._double] * 2,
            *[self._move, self._cut_off, self._token],
        ]

    def mutate(self, data: bytes) -> bytes:
        """Change bytes in one to four places."""
        changed = bytearray(data)
        for _ in range(self._random.randint(1, 4)):
            self._random.choice(self._changes)(changed)
        return bytes(changed)

    def pieces(self, data: bytes) -> list[bytes]:
        """Cut into up to six pieces, or now and then into single bytes."""
        if len(data) < 200 and self._random.random() < 0.1:
            return [data[at : at + 1] for at in range(len(data))]
        ends = sorted(self._at(data) for _ in range(self._random.randint(0, 5)))
        return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]

    def mutate_json(self, data: bytes) -> bytes:
        """Put something else in the place of one to three values or keys; what is no JSON stays as it is."""
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            return data
        for _ in range(self._random.randint(1, 3)):
            value = self._replaced(value)
        return json.dumps(value, ensure_ascii=self._random.random() < 0.5).encode("utf-8", "surrogatepass")

    # ── bytes ────────────────────────────────────────────────────────────────────────────────────────

    def _at(self, data: Sequence[int]) -> int:
        return self._random.randrange(len(data) + 1)

    def _flip(self, data: bytearray) -> None:
        if data:
            data[self._random.randrange(len(data))] ^= 1 << self._random.randrange(8)

    def _set(self, data: bytearray) -> None:
        if data:
            data[self._random.randrange(len(data))] = self._random.randrange(256)

    def _number(self, data: bytearray) -> None:
        """Such as a length."""
        size = self._random.choice([1, 2, 4])
        at = self._at(data)
        data[at : at + size] = (self._random.choice(_NUMBERS) & (1 << 8 * size) - 1).to_bytes(size, "big")

    def _delete(self, data: bytearray) -> None:
        at = self._at(data)
        del data[at : at + self._random.choice([1, 1, 2, 5, 50])]

    def _insert(self, data: bytearray) -> None:
        at = self._at(data)
        data[at:at] = self._random.randbytes(self._random.choice([1, 1, 2, 8, 100]))

    def _double(self, data: bytearray) -> None:
        at = self._at(data)
        data[at:at] = data[at : at + self._random.choice([1, 4, 30, 300])] * self._random.choice([1, 1, 2, 20])

    def _move(self, data: bytearray) -> None:
        at = self._at(data)
        part = data[at : at + self._random.choice([1, 4, 30])]
        del data[at : at + len(part)]
        at = self._at(data)
        data[at:at] = part

    def _cut_off(self, data: bytearray) -> None:
        del data[self._at(data) :]

    def _token(self, data: bytearray) -> None:
        at = self._at(data)
        data[at:at] = self._random.choice(_TOKENS)

    # ── JSON ─────────────────────────────────────────────────────────────────────────────────────────

    def _replaced(self, value: Any) -> Any:
        """Somewhere on a random way down, another value."""
        if self._random.random() < 0.25:
            return self._random.choice(_HOSTILE)
        if isinstance(value, dict) and value:
            return self._in_dict(dict(value))
        if isinstance(value, list) and value:
            at = self._random.randrange(len(value))
            return [*value[:at], self._replaced(value[at]), *value[at + 1 :]]
        return self._random.choice(_HOSTILE)

    def _in_dict(self, value: dict[str, Any]) -> dict[str, Any]:
        key = self._random.choice(list(value))
        match self._random.randrange(6):
            case 0:
                del value[key]
            case 1:
                value[self._random.choice(["", "a", "\0", "\ud800", "$bytes", "v", "data", "options"])] = value.pop(key)
            case 2:
                value["extra"] = self._random.choice(_HOSTILE)
            case _:
                value[key] = self._replaced(value[key])
        return value
