"""SVG figures for light and dark pages, as data URIs.

They are drawn with matplotlib's object interface, because pyplot would change the caller's figures.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from resnest_d2.errors import printable

# After Okabe and Ito: distinct for colour-blind readers, visible on white and on black.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#9a8c00", "#8c7ae6")
_INK, _FAINT = (
    "#010203",
    "#040506",
)  # replaced by colours of the light or dark theme
_STYLE = (
    "<style>:root{--ink:#1f2328;--faint:#d0d7de}"
    "@media(prefers-color-scheme:dark){:root{--ink:#d1d7e0;--faint:#3d444d}}</style>"
)
FEW = 10  # names in a matrix that is as wide as other figures
_LONGEST = 28  # characters of a name in a figure; the tables have all of it
_SETTINGS = {
    "text.parse_math": False,  # a class may be named $a$
    "svg.fonttype": "none",  # text is smaller than outlines, and sharp at any size
    "svg.hashsalt": "resnest_d2",  # the same figure gives the same file
    "font.family": ["sans-serif"],
    "font.size": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _FAINT,
    "grid.color": _FAINT,
    "xtick.color": _FAINT,
    "ytick.color": _FAINT,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "lines.linewidth": 1.6,
}


class Figure(NamedTuple):
    """A figure with its title and a note on how to read it; ``shape`` is "", "wide" or "tall"."""

    uri: str
    title: str
    note: str = ""
    shape: str = ""


class Line(NamedTuple):
    """Line of a plot; ``style`` holds keyword arguments of :meth:`Axes.plot`."""

    label: str
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    style: Mapping[str, Any] = {}


def _canvas(height: float, width: float = 4.8) -> tuple[Canvas, Axes]:
    canvas = Canvas(figsize=(width, height), layout="constrained")
    return canvas, canvas.add_subplot()


def _svg(canvas: Canvas) -> str:
    buffer = io.StringIO()
    canvas.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "var(--ink)").replace(_FAINT, "var(--faint)")
    text = text.replace("<defs>", _STYLE + "<defs>", 1)
    return "data:image/svg+xml;base64," + base64.b64encode(text.encode()).decode()


def _name(text: str) -> str:
    """A name from a file as it is written in a figure: what SVG cannot hold is escaped."""
    name = printable(text, keep="\n")
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"


def _legend(canvas: Canvas, place: str, drawn: Sequence[tuple[Any, str]]) -> None:
    """Adds a legend. Matplotlib's own skips labels that begin with an underscore."""
    if (number := len(drawn)) > 1:
        handles, labels = zip(*((handle, _name(label)) for handle, label in drawn), strict=True)
        columns = 2 if number > 3 else number
        canvas.legend(handles, labels, loc=f"outside {place} left", ncols=columns)


def draw_lines(
    title: str,
    lines: Sequence[Line],
    *,
    xlabel: str,
    ylabel: str,
    limits: tuple[float | None, float | None] = (None, None),
    note: str = "",
) -> Figure:
    """Draws a line plot.

    Args:
        title: title of the figure.
        lines: lines to draw; those without a colour in their style get the next one.
        xlabel: label of the horizontal axis.
        ylabel: label of the vertical axis.
        limits: limits of the vertical axis; None fits the values.
        note: how to read the figure.
    """
    with matplotlib.rc_context(_SETTINGS):
        canvas, axes = _canvas(3.4)
        drawn = []
        for i, line in enumerate(lines):
            style = {"color": COLOURS[i % len(COLOURS)], **line.style}
            colour = {"ink": _INK, "faint": _FAINT}.get(style["color"], style["color"])
            (artist,) = axes.plot(line.x, line.y, **{**style, "color": colour})
            drawn.append((artist, line.label))
        axes.set(xlabel=xlabel, ylabel=ylabel, ylim=limits)
        axes.grid(True, linewidth=0.6)
        _legend(canvas, "lower", drawn)
        return Figure(_svg(canvas), title, note)


def draw_bars(
    title: str,
    labels: Sequence[str],
    series: Mapping[str, Sequence[float]],
    *,
    xlabel: str,
    note: str = "",
) -> Figure:
    """Draws a horizontal bar chart with the values beside the bars.

    Args:
        title: title of the figure.
        labels: labels of the groups, from top to bottom.
        series: a value for each group, by the series' name; NaN draws no bar.
        xlabel: label of the horizontal axis.
        note: how to read the figure.
    """
    with matplotlib.rc_context(_SETTINGS):
        height = max(1.6, 0.9 + 0.21 * len(labels) * (len(series) + 0.5))
        canvas, axes = _canvas(height)
        groups = []
        width = 0.8 / max(len(series), 1)
        finite = [v for values in series.values() for v in values if np.isfinite(v)]
        low, high = min([0, *finite]), max([0, *finite]) or 1
        for i, (name, values) in enumerate(series.items()):
            y = np.arange(len(labels)) + (i - (len(series) - 1) / 2) * width
            drawn = np.nan_to_num(np.array(values, dtype=float))
            bars = axes.barh(y, drawn, width * 0.9, color=COLOURS[i % len(COLOURS)])
            groups.append((bars, name))
            texts = [f"{v:.2f}" if np.isfinite(v) else "–" for v in values]
            axes.bar_label(bars, texts, padding=3, fontsize=9.5, color=_INK)
        axes.set_yticks(range(len(labels)), [_name(label) for label in labels])
        axes.set_ylim(len(labels) - 0.4, -0.6)  # the first one at the top
        axes.set(xlabel=xlabel, xlim=(low * 1.25, high * 1.18))
        axes.grid(True, axis="x", linewidth=0.6)
        axes.tick_params(axis="y", length=0)
        _legend(canvas, "upper", groups)
        return Figure(_svg(canvas), title, note, "tall" if height > 7 else "")


def draw_matrix(
    title: str, table: np.ndarray, names: Sequence[str], *, labels: tuple[str, str], note: str = ""
) -> Figure:
    """Draws a square matrix of numbers, shaded by each number's share of its row.

    Args:
        title: title of the figure.
        table: numbers, (N, N).
        names: names of the N rows and columns.
        labels: labels of the vertical and of the horizontal axis.
        note: how to read the figure.
    """
    number = len(names)
    wide = number > FEW
    names = [_name(name) for name in names]
    with matplotlib.rc_context(_SETTINGS):
        canvas, axes = _canvas(7, 9.2) if wide else _canvas(3.4 if number < 8 else 4.8)
        share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
        size = min(10.5, 60 / number * (3 if wide else 1))
        for (r, c), value in np.ndenumerate(table):
            # Opacity works on any background; the diagonal is correct, the rest is not.
            colour = COLOURS[0] if r == c else COLOURS[5]
            opacity = float(share[r, c]) * 0.8
            axes.fill([c, c + 1, c + 1, c], [r, r, r + 1, r + 1], color=colour, alpha=opacity, lw=0)
            if value:
                axes.text(c + 0.5, r + 0.5, f"{value}", ha="center", va="center", fontsize=size)
        ticks = np.arange(number) + 0.5
        turn = 90 if max(map(len, names)) * number > 40 else 0
        axes.set_xticks(ticks, names, fontsize=max(size, 5), rotation=turn)
        axes.set_yticks(ticks, names, fontsize=max(size, 5))
        axes.set(ylabel=labels[0], xlabel=labels[1], xlim=(0, number), ylim=(number, 0))
        axes.tick_params(length=0)
        return Figure(_svg(canvas), title, note, "wide" if wide else "")
