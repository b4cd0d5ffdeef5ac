"""Times of cases that take turns, beside the matrix products that this machine reaches meanwhile.

1 FMA is 2 FLOP everywhere.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch

LIMIT_SIZE = 2048  # of the square fp32 matrices whose product is the limit


class Skipped(Exception):
    """Why a case cannot be measured here."""


@dataclass
class Case:
    """Something to time; cases of one ``setting`` are compared, the first of them is the plain one.

    Attributes:
        what: "backbone", "detector", "training", "scoring" or "predict".
        model: name of what runs.
        setting: e.g. size, depth, proposals, batch; the plots have numbers on their x axis.
        run: does it once.
        prepare: what comes before each run and is not timed.
        flop: useful work of one run, if known.
        saved: bytes saved for backward, of a training step.
        saved_resnest: those of the ResNeSt alone, whose blocks may be recomputed.
        parts: seconds of each part, appended to by ``run``, if it can be told apart.
    """

    what: str
    model: str
    setting: dict
    run: Callable[[], object]
    prepare: Callable[[], object] = lambda: None
    flop: float | None = None
    saved: int | None = None
    saved_resnest: int | None = None
    parts: dict[str, list[float]] = field(default_factory=dict)


def seconds(run: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def take_turns(
    cases: Sequence[Case], *, repeats: int, limit_size: int = LIMIT_SIZE
) -> tuple[list[list[float]], list[float]]:
    """Run every case in turn, a matrix product before each, ``repeats`` times after a warm-up.

    Returns:
        Seconds of each case, and of all the products.
    """
    matrix = torch.rand(limit_size, limit_size)
    torch.mm(matrix, matrix)
    for case in cases:
        case.prepare()
        case.run()
        case.parts.clear()
    times, products = [[] for _ in cases], []
    for _ in range(repeats):
        for own, case in zip(times, cases, strict=True):
            products.append(seconds(lambda: torch.mm(matrix, matrix)))
            case.prepare()
            own.append(seconds(case.run))
    return times, products


def to_rows(
    cases: Sequence[Case],
    times: Sequence[Sequence[float]],
    products: Iterable[float],
    *,
    limit_size: int = LIMIT_SIZE,
) -> list[dict]:
    """Medians, ratios to the first case, and shares of the limit.

    Args:
        cases: of one setting.
        times: seconds of each.
        products: seconds of the matrix products that ran between them.
        limit_size: of those matrices.

    Returns:
        One row a case: what, model, setting, seconds, faster (how many times as fast as the first),
        flop, rate and limit (FLOP/s), share (of the limit), saved and saved_resnest (bytes), parts
        (median seconds).
    """
    limit = 2 * limit_size**3 / statistics.median(products)
    medians = [statistics.median(own) for own in times]
    rows = []
    for case, median in zip(cases, medians, strict=True):
        rate = case.flop / median if case.flop else None
        rows.append(
            {
                "what": case.what,
                "model": case.model,
                "setting": case.setting,
                "seconds": median,
                "faster": medians[0] / median,
                "flop": case.flop,
                "rate": rate,
                "limit": limit,
                "share": rate / limit if rate else None,
                "saved": case.saved,
                "saved_resnest": case.saved_resnest,
                "parts": {name: statistics.median(own) for name, own in case.parts.items()},
            }
        )
    return rows
