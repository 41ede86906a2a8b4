"""The ratios as an SVG: a bar for each row that has a target, on a logarithmic scale, the target as a tick.

To the right is better: where less is better, the bar shows how many times less.
"""

import math
from html import escape
from typing import Any

LABEL, WIDTH, LINE = 380, 520, 24  # pixels: of the titles, of the bars, and from row to row
MOST = 32.0  # times, the right end of the scale


def svg(rows: list[dict[str, Any]]) -> str:
    drawn = [row for row in rows if row["ratio"] and row["target"]]
    height = LINE * len(drawn) + 60
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LABEL + WIDTH + 80}" height="{height}" '
        'font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="white"/>',
        '<text x="10" y="20" font-weight="bold">Times better than the best peer in the same run</text>',
        f'<text x="{LABEL}" y="20" fill="#666">a tick is the target</text>',
    ]
    for number, row in enumerate(drawn):
        ratio, target = (row["ratio"], row["target"]) if row["more"] else (1 / row["ratio"], 1 / row["target"])
        y = 34 + LINE * number
        left, right = sorted((place(1), place(ratio)))
        color = "#2a7f4f" if row["met"] else "#c0603a"
        parts += [
            f'<text x="{LABEL - 10}" y="{y + 13}" text-anchor="end">{escape(row["title"])}</text>',
            f'<rect x="{left:.1f}" y="{y}" width="{max(1, right - left):.1f}" height="16" fill="{color}"/>',
            f'<line x1="{place(target):.1f}" x2="{place(target):.1f}" y1="{y - 2}" y2="{y + 18}" stroke="black"/>',
            f'<text x="{max(right, place(target)) + 6:.1f}" y="{y + 13}">{ratio:.2g}×</text>',
        ]
    foot = height - 10
    for times in (0.5, 1, 2, 4, 8, 16, 32):
        parts.append(f'<text x="{place(times):.1f}" y="{foot}" text-anchor="middle" fill="#666">{times:g}×</text>')
    return "\n".join([*parts, "</svg>\n"])


def place(times: float) -> float:
    """The x of a ratio."""
    low, high = math.log(0.4), math.log(MOST)
    return LABEL + WIDTH * (min(max(math.log(times), low), high) - low) / (high - low)
