"""Draws the targets as one picture: how far each is reached, as bars around the line where it is met."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path

from benchmarks import report
from benchmarks.verdicts import Line

_WIDTH, _LABELS, _FIGURES, _ROW, _TOP = 1000, 450, 220, 26, 60
_MOST = 2.0  # times the target; longer bars are cut there
# A light rim, for where the words cross the line.
_READABLE = 'fill="#222" stroke="#fff" stroke-width="3" paint-order="stroke"'
_MET, _MISSED = "#2f7d5b", "#b4543a"


def draw(lines: list[Line], path: Path) -> None:
    """Write the picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(_picture(lines)) + "\n", encoding="utf-8")


def _picture(lines: list[Line]) -> Iterator[str]:
    height = _TOP + _ROW * len(lines) + 34
    box = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    yield f'<svg xmlns="http://www.w3.org/2000/svg" {box} role="img" font-family="sans-serif" font-size="13">'
    yield f"<title>{escape(_summary(lines))}</title>"
    yield f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>'
    yield f'<text x="12" y="24" font-size="16" font-weight="bold">{escape(_summary(lines))}</text>'
    met_at = _LABELS + _scaled(1.0)
    yield f'<text x="{met_at}" y="{_TOP - 10}" text-anchor="middle" fill="#555">target</text>'
    for number, line in enumerate(lines):
        yield from _bar(line, _TOP + _ROW * number)
    bottom = _TOP + _ROW * len(lines)
    yield f'<line x1="{met_at}" y1="{_TOP - 4}" x2="{met_at}" y2="{bottom}" stroke="#222" stroke-dasharray="4 3"/>'
    facts = escape(", ".join(report.machine().values()))
    yield f'<text x="12" y="{bottom + 22}" font-size="11" fill="#555">{facts}</text>'
    yield "</svg>"


def _bar(line: Line, top: int) -> Iterator[str]:
    against = f" / {line.peer}" if line.peer else ""
    label = escape(f"{line.work}{against}")
    figure = f"{report.amount(line.judged)}{'' if line.peer else f' {line.unit}'} ({line.target})"
    length = max(2, _scaled(min(line.share, _MOST)))
    colour = _MET if line.is_met else _MISSED
    yield f'<text x="{_LABELS - 10}" y="{top + 17}" text-anchor="end" font-size="11">{label}</text>'
    yield f'<rect x="{_LABELS}" y="{top + 5}" width="{length}" height="{_ROW - 10}" rx="2" fill="{colour}"/>'
    yield f'<text x="{_LABELS + length + 6}" y="{top + 17}" font-size="11" {_READABLE}>{escape(figure)}</text>'


def _scaled(share: float) -> int:
    return round(share / _MOST * (_WIDTH - _LABELS - _FIGURES))


def _summary(lines: list[Line]) -> str:
    return f"Assetgate: {sum(line.is_met for line in lines)} of {len(lines)} targets met"
