"""matplotlib's drawings as SVG elements that follow the page: its light and dark colours, its font, its ids."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours that nothing else uses; `element` replaces each with the page's variable.
INK, MUTED, GRID, SURFACE = "#010203", "#010204", "#010205", "#010206"
ACCENT, BAD = "#010207", "#010208"
_VARIABLES = {INK: "ink", MUTED: "muted", GRID: "line", SURFACE: "surface", ACCENT: "accent", BAD: "bad"}
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
# Two digits, and only where they help the eye.
_DECIMALS = re.compile(r"\d+\.\d{3,}")


@contextmanager
def settings() -> Iterator[None]:
    """matplotlib's defaults and the page's, whatever the caller of the process has set; as before afterwards."""
    import matplotlib

    with warnings.catch_warnings(), matplotlib.rc_context():
        # Names may have characters that matplotlib's own font lacks; the browser's font draws them.
        warnings.filterwarnings("ignore", message="Glyph")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "plot", "font.size": 10.5,
                                    "axes.unicode_minus": False, "text.color": INK})
        yield


def figure(width: float, height: float, layout: Literal["constrained"] | None = None) -> Figure:
    """An empty figure, in inches of 72 CSS pixels; to be called within `settings`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), dpi=72, layout=layout)
    FigureCanvasAgg(made)
    return made


def plain(axes: Axes) -> None:
    """Muted ticks without marks, and no frame but at the left and the bottom."""
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, length=0)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(GRID)


def ticks(low: float, high: float, logarithmic: bool, most: int = 4) -> tuple[list[float], list[str]]:
    """Round numbers from ``low`` to ``high``, at most about ``most``, and how they read."""
    from matplotlib.ticker import MaxNLocator

    if not logarithmic:
        found = [float(t) for t in MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)]
    else:
        bottom, top = math.floor(math.log10(low)), math.ceil(math.log10(high))
        found = [m * 10.0**d for d in range(bottom, top + 1) for m in (1, 2, 5)]
    kept = [t for t in found if low <= t <= high]
    if logarithmic and len(kept) > most:
        kept = kept[::math.ceil(len(kept) / most)]
    return kept, [f"{t:g}" for t in kept]


def power(exponent: int) -> str:
    """A power of ten, its exponent raised."""
    return f"10{str(exponent).translate(_SUPERSCRIPT)}"


def element(made: Figure, prefix: str, title: str, description: str, titles: Mapping[str, str] | None = None) -> Markup:
    """``made`` as an ``<svg>`` element that a screen reader reads as an image with ``title`` and ``description``.

    Args:
        prefix: begins every id in it; one that no other drawing of the page has.
        titles: gid of a group -> what a pointer over it shows.
    """
    text = io.StringIO()
    made.savefig(text, format="svg", transparent=True,
                 metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg"):]
    svg = re.sub(r"<style.*?</style>|<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<[^>]*>", lambda tag: _own_tag(tag[0], prefix), svg)
    svg = re.sub(r"<svg[^>]*>", lambda tag: re.sub(r' (width|height)="[^"]*"', "", tag[0]), svg, count=1)
    for gid, words in (titles or {}).items():
        group = f'<g id="{prefix}-{gid}">'
        svg = svg.replace(group, f"{group}<title>{escape(words)}</title>")
    head = (f'<title id="{prefix}-title">{escape(title)}</title>'
            f'<desc id="{prefix}-desc">{escape(description)}</desc>')
    svg = svg.replace("<svg", f'<svg role="img" aria-labelledby="{prefix}-title" aria-describedby="{prefix}-desc"', 1)
    return Markup(re.sub(r"(<svg[^>]*>)", lambda opening: opening[1] + head, svg, count=1))


def _own_tag(tag: str, prefix: str) -> str:
    """One tag with the page's colours and font in place of matplotlib's, and ids that are the drawing's own."""
    tag = re.sub(r'( id="|href="#|url\(#)', rf"\1{prefix}-", tag)
    tag = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", tag)
    if tag.startswith("<path"):
        tag = re.sub(r' d="[^"]*"', lambda path: _DECIMALS.sub(lambda n: f"{float(n[0]):.2f}", path[0]), tag)
    return re.sub("#0102[0-9a-f]{2}", lambda colour: f"var(--{_VARIABLES[colour[0]]})", tag)
