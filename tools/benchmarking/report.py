"""Writes the rows as tables, JSON, and an image of four plots."""

import json
from pathlib import Path
from typing import IO

from tabulate import tabulate

from resnest_d2.files import make_folder, whole_file

from .growth import growth_table

_PLOTS = {  # title: key of the x axis, key of the y axis, factor, its label
    "time against image size": ("pixels", "seconds", 1e3, "ms"),
    "time against depth": ("depth", "seconds", 1e3, "ms"),
    "time against number of proposals": ("proposals", "seconds", 1e3, "ms"),
    "saved for backward against batch": ("batch", "saved", 1e-6, "MB"),
}
_HIDDEN = "pixels"  # redundant with the size


def text(rows: list[dict]) -> str:
    """All tables that have lines."""
    timed = [row for row in rows if row["what"] != "growth"]
    tables = [table(timed) if timed else "", parts_table(timed), growth_table(rows)]
    return "\n\n".join(filter(None, tables))


def table(rows: list[dict]) -> str:
    """Table of times, ratios to the first model of a setting, rates, and shares of the limit."""
    lines = [
        [
            row["what"],
            ", ".join(f"{k} {v}" for k, v in row["setting"].items() if k != _HIDDEN),
            row["model"],
            row["seconds"] * 1e3,
            row["faster"],
            _scaled(row["flop"], 1e-9),
            _scaled(row["rate"], 1e-9),
            _scaled(row["limit"], 1e-9),
            _scaled(row["share"], 100),
            _scaled(row["saved"], 1e-6),
            _scaled(row["saved_resnest"], 1e-6),
            _scaled(row.get("peak"), 1e-6),
        ]
        for row in rows
    ]
    headers = ["what", "of", "model", "ms", "faster", "GFLOP", "GFLOP/s", "limit", "%"]
    headers += ["saved MB", "of the ResNeSt", "peak MB"]
    if not any(row.get("peak") for row in rows):  # on a CPU
        headers, lines = headers[:-1], [line[:-1] for line in lines]
    return tabulate(lines, headers=headers, floatfmt=(*[""] * 3, ".1f", ".2f", *[".1f"] * 7))


def parts_table(rows: list[dict]) -> str:
    """Table of the time of each part of a detector, in ms; "rest" is the time outside all parts."""
    lines = []
    for row in (row for row in rows if row["parts"]):
        parts = {name: own * 1e3 for name, own in row["parts"].items()}
        rest = row["seconds"] * 1e3 - sum(parts.values())
        setting = ", ".join(f"{k} {v}" for k, v in row["setting"].items() if k != _HIDDEN)
        lines.append({"of": setting, "model": row["model"], **parts, "rest": rest})
    return tabulate(lines, headers="keys", floatfmt=".1f") if lines else ""


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def series(rows: list[dict], x: str, y: str) -> dict[str, list[tuple[float, float]]]:
    """Lines of a plot: points of one kind and model that differ only in ``x``, at least two.

    Args:
        rows: result of :func:`benchmarking.measure.to_rows`.
        x: key of the setting.
        y: key of the row.
    """
    lines, others = {}, {}
    for row in rows:
        if x not in row["setting"] or row[y] is None:
            continue
        name = f"{row['what']}: {row['model']}"
        along = {x, "size"} if x == "pixels" else {x}
        rest = {k: v for k, v in row["setting"].items() if k not in along}
        if others.setdefault(row["what"], rest) == rest:  # the first setting of the rest
            lines.setdefault(name, []).append((row["setting"][x], row[y]))
    return {name: sorted(points) for name, points in lines.items() if len(dict(points)) > 1}


def plot(rows: list[dict], file: IO[bytes]) -> None:
    """Writes four plots as a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 10), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, (x, y, factor, unit)) in zip(
        figure.subplots(2, 2).flat, _PLOTS.items(), strict=True
    ):
        lines = series(rows, x, y)
        for name, points in lines.items():
            axes.plot([p[0] for p in points], [p[1] * factor for p in points], "o-", label=name)
        axes.set(title=title if lines else f"{title}: fewer than two points", xlabel=x, ylabel=unit)
        if lines:
            axes.set_ylim(bottom=0)
            axes.legend(fontsize="small")
    figure.savefig(file, format="png", dpi=100)


def read(folder: Path) -> list[dict]:
    """Reads the rows that :func:`write` wrote; empty if there are none."""
    path = folder / "benchmark.json"
    return json.loads(path.read_text()) if path.is_file() else []


def write(rows: list[dict], folder: Path) -> None:
    """Writes benchmark.txt, benchmark.json and benchmark.png."""
    make_folder(folder)
    with whole_file(folder / "benchmark.txt", "w") as file:
        file.write(f"{text(rows)}\n")
    with whole_file(folder / "benchmark.json", "w") as file:
        json.dump(rows, file, indent=1)
    with whole_file(folder / "benchmark.png") as file:
        plot(rows, file)
