"""How time and memory grow with the size of the work, each size in a process of its own.

A slope is log(ratio of the values) / log(ratio of the sizes) of neighbouring sizes: 0 is constant,
1 linear, 2 quadratic. That of n log n is 1.13 from 1,000 to 10,000, and 1.10 from there to 118,000.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil
from tabulate import tabulate

from resnest_d2.files import make_folder

from .growth_case import CONFIG, Task
from .made_run import METRICS, draw_number, write_run

STEEP = 1.15  # slopes above are more than n log n and noise
_SHORT, _SMALL = 0.1, 50e6  # seconds and bytes up to which slopes are noise
DETECTIONS = (10, 31)  # per image, from and below
CLASSES = 80


class Quantity(NamedTuple):
    """What grows.

    Attributes:
        option: of the command line that lists its sizes.
        unit: of the sizes.
        power: of a size that the work is proportional to: 2 of the side of an image.
        made: whether it needs a made run of ``size`` images.
    """

    option: str
    unit: str
    power: int = 1
    made: bool = False


QUANTITIES = {
    "check-data": Quantity("growth_images", "images", made=True),
    "load": Quantity("growth_images", "images", made=True),
    "evaluate": Quantity("growth_images", "images", made=True),
    "report": Quantity("growth_images", "images", made=True),
    "batch": Quantity("growth_batch", "images in a step"),
    "side": Quantity("growth_side", "pixels, shorter side", power=2),
    "objects": Quantity("growth_objects", "objects"),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``--what growth``."""
    add = parser.add_argument_group("growth").add_argument
    add("--growth-of", nargs="+", choices=QUANTITIES, default=list(QUANTITIES), help="what grows")
    sizes = {"nargs": "+", "type": int}
    add("--growth-images", **sizes, default=[1000, 10000, 118000], help="images of a dataset")
    add("--growth-batch", **sizes, default=[1, 2, 4, 8, 16], help="images of a training step")
    sides = [320, 480, 640, 800, 1067, 1333]
    add("--growth-side", **sizes, default=sides, help="shorter side of the step's image")
    add("--growth-objects", **sizes, default=[1, 10, 100, 1000], help="detections of an image")
    add("--growth-config", default=CONFIG, help="config of the step, with a ResNeSt-14")
    add("--growth-memory", type=float, default=8, help="GiB from which on a case is stopped")
    add("--growth-minutes", type=float, default=10, help="minutes after which a case is stopped")


def growth_rows(args: argparse.Namespace) -> Iterator[dict]:
    """Measures every quantity at every size, in rising order.

    Args:
        args: of the command line.

    Yields:
        Rows as of :func:`benchmarking.measure.to_rows`, with the bytes ``baseline``, before, and
        ``peak``, the largest, and why a case was ``stopped``.
    """
    make_folder(Path(args.output))
    stopped: dict[str, str] = {}
    for made in (True, False):
        names = [name for name in args.growth_of if QUANTITIES[name].made == made]
        sizes = {name: sorted(set(getattr(args, QUANTITIES[name].option))) for name in names}
        for size in sorted({size for own in sizes.values() for size in own}):
            due = [name for name in names if size in sizes[name]]
            with tempfile.TemporaryDirectory(prefix="growth-", dir=args.output) as folder:
                if made and any(name not in stopped for name in due):
                    _make(Path(folder), size)
                for name in due:
                    if name not in stopped:
                        found = _measure(args, name, size, folder)
                    else:
                        found = {"stopped": f"not run: {stopped[name]}"}
                    if found.get("stopped"):
                        stopped.setdefault(name, f"{size:,} {found['stopped']}")
                    yield _row(name, size, found)


def _make(folder: Path, images: int) -> None:
    options = {"detections": DETECTIONS, "draw": draw_number}
    write_run(folder / "run", images=images, classes=CLASSES, masks=True, **options)
    results = {"made": {"bbox": METRICS, "segm": METRICS}}
    (folder / "run" / "results.json").write_text(json.dumps(results))


def _measure(args: argparse.Namespace, name: str, size: int, folder: str) -> dict:
    own = Path(folder, "run" if QUANTITIES[name].made else f"{name}-{size}")
    own.mkdir(exist_ok=True)
    repeats = 1 if QUANTITIES[name].made else args.repeats
    task = Task(name, size, str(own), args.growth_config, repeats, args.threads)
    return run_alone(task, memory=args.growth_memory * 2**30, limit=60 * args.growth_minutes)


def run_alone(task: Task, *, memory: float, limit: float) -> dict:
    """Measures in a fresh process, and stops it at a limit.

    Args:
        task: what to measure.
        memory: limit in bytes.
        limit: limit in seconds, with the start.

    Returns:
        The result of :func:`benchmarking.growth_case.measure`, or ``stopped``, the reason, and the
        largest memory that was seen until then.
    """
    measured = Path(task.folder, "measured.json")
    measured.unlink(missing_ok=True)
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-m", "benchmarking.growth_case", json.dumps(task._asdict())]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, env=environment, stderr=errors)
        peak, reason = _watch(process, memory, limit)
        if not reason and measured.is_file():
            return json.loads(measured.read_text())
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip().splitlines()
    return {
        "stopped": reason or f"failed: {said[-1] if said else process.returncode}",
        "peak": peak,
    }


def _watch(process: subprocess.Popen, memory: float, limit: float) -> tuple[int, str]:
    """Waits for the end of a process; returns its largest memory, and why it was stopped."""
    start, peak, reason = time.monotonic(), 0, ""
    try:
        while process.poll() is None and not reason:
            time.sleep(0.05)
            try:
                peak = max(peak, psutil.Process(process.pid).memory_info().rss)
            except psutil.NoSuchProcess:
                continue
            if peak > memory:
                reason = f"stopped at {memory / 2**30:g} GiB"
            elif time.monotonic() - start > limit:
                reason = f"stopped after {limit / 60:g} minutes"
    finally:
        process.kill()
        process.wait()
    return peak, reason


def _row(name: str, size: int, found: dict) -> dict:
    nothing = dict.fromkeys(["seconds", "baseline", "peak", "saved"])
    setting = {QUANTITIES[name].unit: size}
    return {"what": "growth", "model": name, "setting": setting, **nothing, "parts": {}, **found}


def growth_table(rows: Sequence[dict]) -> str:
    """Table of the seconds and bytes of each quantity, their slopes, and what is too steep.

    Args:
        rows: of :func:`growth_rows`; of repeated ones the last counts.
    """
    own: dict[str, dict[int, dict]] = {name: {} for name in QUANTITIES}
    for row in rows:
        if row["what"] == "growth":
            (size,) = row["setting"].values()
            own[row["model"]][size] = row
    lines = []
    for name, by_size in own.items():
        before: tuple[int, dict] | None = None
        for size, row in sorted(by_size.items()):
            lines.append(_line(name, size, row, before))
            before = size, row
    headers = ["growth of", "with", "s", "slope", "MB", "slope", "MB before", ""]
    formats = ("", "", ".2f", ".2f", ".0f", ".2f", ".0f", "")
    return tabulate(lines, headers=headers, floatfmt=formats) if lines else ""


def _line(name: str, size: int, row: dict, before: tuple[int, dict] | None) -> list:
    values = [row["seconds"], _grown(row)]
    slopes: list[float | None] = [None, None]
    if before is not None:
        ratio = (size / before[0]) ** QUANTITIES[name].power
        earlier = [before[1]["seconds"], _grown(before[1])]
        slopes = [slope(a, b, ratio) for a, b in zip(earlier, values, strict=True)]
    steep = [
        what
        for what, value, least, own in zip(
            ("time", "memory"), values, (_SHORT, _SMALL), slopes, strict=True
        )
        if own is not None and own > STEEP and value > least
    ]
    note = row.get("stopped") or (f"{' and '.join(steep)}: above n log n" if steep else "")
    seconds, grown, baseline = (*values, row["baseline"])
    megabytes = [v and v / 1e6 for v in (grown, baseline)]
    unit = QUANTITIES[name].unit
    return [
        name,
        f"{size:,} {unit}",
        seconds,
        slopes[0],
        megabytes[0],
        slopes[1],
        megabytes[1],
        note,
    ]


def _grown(row: dict) -> int | None:
    """Bytes above those before; None of a case that was stopped."""
    return None if row["baseline"] is None else row["peak"] - row["baseline"]


def slope(before: float | None, after: float | None, ratio: float) -> float | None:
    """Exponent of the growth of a value with a size.

    Args:
        before: value of the smaller size; None if it is unknown.
        after: value of the larger size.
        ratio: larger size / smaller size.
    """
    return math.log(after / before) / math.log(ratio) if before and after else None
