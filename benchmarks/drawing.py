"""SVG by hand: text and a frame that follow the reader's light or dark scheme; no plotting library."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_STYLE = """
text{font:12px system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;fill:#5f646c}
.title{font-weight:600;fill:#1b1d21;font-size:13px}.strong{fill:#1b1d21}
.grid{stroke:#e2e0db}.axis{stroke:#9a9ea6}
.s0{stroke:#c2701c;fill:#c2701c}.s1{stroke:#3f6fb5;fill:#3f6fb5}.s2{stroke:#2f7d4f;fill:#2f7d4f}.s3{stroke:#8a5aa8;fill:#8a5aa8}
.control{stroke:#9a9ea6;fill:#9a9ea6}
.line{fill:none;stroke-width:1.8}.whisker{stroke-width:1.2;opacity:.65}.bar{stroke:none}
@media(prefers-color-scheme:dark){text{fill:#9aa0a9}.title,.strong{fill:#e8e6e1}.grid{stroke:#2c3037}.axis{stroke:#6d737c}
.s0{stroke:#f0a24e;fill:#f0a24e}.s1{stroke:#7fa8e6;fill:#7fa8e6}.s2{stroke:#6cc08f;fill:#6cc08f}.s3{stroke:#bf94dc;fill:#bf94dc}}
"""


def text(x: float, y: float, words: str, anchor: str, kind: str = "") -> str:
    """Return words at a place; ``anchor`` is start, middle or end, ``kind`` a class of the style."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def legend(names: Sequence[str], kinds: Sequence[str], *, left: float, y: float = 20) -> str:
    """Return a dot of each class of the style with its name, in a line at ``y``."""
    parts, x = [], left
    for name, kind in zip(names, kinds, strict=True):
        parts.append(
            f'<circle class="{kind}" cx="{x + 4:.0f}" cy="{y:.0f}" r="4"/>'
            f"{text(x + 14, y + 4, name, 'start', 'strong')}"
        )
        x += 36 + 7.0 * len(name)
    return "".join(parts)


def svg(width: float, height: float, label: str, body: Sequence[str]) -> str:
    """Return a whole picture; ``label`` is what a screen reader says."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        f'aria-label="{escape(label)}"><style>{_STYLE}</style>{"".join(body)}</svg>\n'
    )
