"""A bar chart of the rows in which peers stand beside us: one group of bars per row, as SVG."""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape

from benchmarks.report import number
from benchmarks.row import Result, Results, Row

WIDTH, LABELS, VALUES, BAR, GAP = 860, 150, 90, 18, 46
LEGEND = {
    "#1f6feb": "RouteMQ",
    "#8b949e": "a peer",
    "#d0d7de": "a peer that is not at least once",
}
OURS, THEIRS, UNSAFE = LEGEND


def chart(rows: list[Row], results: Results) -> str:
    parts, top = list(_legend()), 2 * GAP
    for row in rows:
        measured = [each for each in results[row.name] if each.runs]
        if {each.contender.is_ours for each in measured} == {True, False}:
            parts.append(_text(10, top - 8, f"{row.title} ({measured[0].unit})", weight="bold"))
            parts += _bars(sorted(measured, key=lambda each: -(each.median() or 0)), top)
            top += len(measured) * (BAR + 4) + GAP
    style = 'font-family="sans-serif" font-size="12" fill="#1f2328"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top - GAP + 10}" {style}>'
        f'<rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'
    )


def _legend() -> Iterator[str]:
    x = 10
    for colour, text in LEGEND.items():
        yield _bar(x, 12, BAR, colour)
        yield _text(x + BAR + 6, 25, text)
        x += BAR + 40 + 7 * len(text)
    yield _text(x, 25, "longer is faster")


def _bars(results: list[Result], top: int) -> Iterator[str]:
    largest = max(each.median() or 0 for each in results)
    for index, each in enumerate(results):
        value, y = each.median() or 0, top + index * (BAR + 4)
        length = (WIDTH - LABELS - VALUES) * value / largest
        colour = OURS if each.contender.is_ours else THEIRS if each.contender.at_least_once else UNSAFE
        yield _text(LABELS - 8, y + 13, each.label, anchor="end")
        yield _bar(LABELS, y, max(length, 1), colour)
        yield _text(LABELS + length + 6, y + 13, number(value))


def _bar(x: float, y: float, length: float, colour: str) -> str:
    return f'<rect x="{x}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{colour}"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" font-weight="{weight}">{escape(text)}</text>'
