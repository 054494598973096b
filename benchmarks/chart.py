"""A bar chart of the rows in which peers stand beside us: one group of bars per row, as SVG."""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape

from benchmarks.report import number
from benchmarks.row import Result, Results, Row

WIDTH, LABELS, BAR, GAP = 860, 150, 18, 46
OURS, THEIRS, UNSAFE = "#1f6feb", "#8b949e", "#d0d7de"


def chart(rows: list[Row], results: Results) -> str:
    shown = [row for row in rows if sum(bool(each.runs) for each in results[row.name]) > 1]
    top, parts = GAP, list[str]()
    for row in shown:
        parts.append(_text(10, top - 8, row.title, weight="bold"))
        ranked = sorted((each for each in results[row.name] if each.runs), key=lambda each: -(each.median() or 0))
        parts += _bars(ranked, top)
        top += len(ranked) * (BAR + 4) + GAP
    parts.append(_text(10, top - 16, "light grey: not at least once"))
    style = 'font-family="sans-serif" font-size="12" fill="#1f2328"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top}" {style}>'
        f'<rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'
    )


def _bars(results: list[Result], top: int) -> Iterator[str]:
    largest = max(each.median() or 0 for each in results)
    for index, each in enumerate(results):
        value, y = each.median() or 0, top + index * (BAR + 4)
        length = (WIDTH - LABELS - 90) * value / largest
        colour = OURS if each.contender.is_ours else THEIRS if each.contender.at_least_once else UNSAFE
        yield _text(LABELS - 8, y + 13, each.label, anchor="end")
        yield f'<rect x="{LABELS}" y="{y}" width="{max(length, 1):.1f}" height="{BAR}" fill="{colour}"/>'
        yield _text(LABELS + length + 6, y + 13, number(value))


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" font-weight="{weight}">{escape(text)}</text>'
