"""Draws the ratios as an SVG: a bar for each row with a target, and a tick for the target, on a logarithmic scale.

Longer bars are better: where less is better, the bar shows how many times less.
"""

import math
from html import escape
from typing import Any

LABEL, WIDTH, LINE = 380, 520, 24  # pixels: of the titles, of the bars, and from row to row
RIGHT_END = 32.0  # times
STYLE = (
    "text { fill: #222 } .soft { fill: #666 } line { stroke: #222 } .ground { fill: #fff }"
    " .met { fill: #2a7f4f } .missed { fill: #c0603a }"
    " @media (prefers-color-scheme: dark) {"
    " text { fill: #ddd } .soft { fill: #999 } line { stroke: #ddd } .ground { fill: #0d1117 }"
    " .met { fill: #3fa56b } .missed { fill: #d9784f } }"
)


def svg(rows: list[dict[str, Any]]) -> str:
    drawn = [row for row in rows if row["ratio"] and row["target"]]
    height = LINE * len(drawn) + 60
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LABEL + WIDTH + 80}" height="{height}" '
        'font-family="sans-serif" font-size="13">',
        f"<style>{STYLE}</style>",
        '<rect class="ground" width="100%" height="100%"/>',
        '<text x="10" y="20" font-weight="bold">Times better than the best peer in the same run</text>',
        f'<text x="{LABEL}" y="20" class="soft">a tick is the target</text>',
    ]
    for number, row in enumerate(drawn):
        ratio, target = (row["ratio"], row["target"]) if row["more"] else (1 / row["ratio"], 1 / row["target"])
        y = 34 + LINE * number
        left, right = sorted((place(1), place(ratio)))
        kind = "met" if row["met"] else "missed"
        parts += [
            f'<text x="{LABEL - 10}" y="{y + 13}" text-anchor="end">{escape(row["title"])}</text>',
            f'<rect x="{left:.1f}" y="{y}" width="{max(1, right - left):.1f}" height="16" class="{kind}"/>',
            f'<line x1="{place(target):.1f}" x2="{place(target):.1f}" y1="{y - 2}" y2="{y + 18}"/>',
            f'<text x="{max(right, place(target)) + 6:.1f}" y="{y + 13}">{ratio:.2g}×</text>',
        ]
    foot = height - 10
    for times in (0.5, 1, 2, 4, 8, 16, 32):
        parts.append(f'<text x="{place(times):.1f}" y="{foot}" text-anchor="middle" class="soft">{times:g}×</text>')
    return "\n".join([*parts, "</svg>\n"])


def place(times: float) -> float:
    """The x coordinate of a ratio."""
    low, high = math.log(0.4), math.log(RIGHT_END)
    return LABEL + WIDTH * (min(max(math.log(times), low), high) - low) / (high - low)
