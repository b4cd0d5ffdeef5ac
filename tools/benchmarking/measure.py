"""Times of cases that take turns, compared with matrix products on the same machine.

1 FMA is 2 FLOP everywhere.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch

LIMIT_SIZE = 2048  # size of the square fp32 matrices whose product is the limit


class Skipped(Exception):
    """A case cannot be measured; the message gives the reason."""


@dataclass
class Case:
    """Case to time. Cases of the same ``setting`` are compared with the first of them.

    Attributes:
        what: "backbone", "detector", "training", "scoring" or "predict".
        model: name of the model.
        setting: values such as size, depth, proposals, batch; numbers can be the x axis of a plot.
        run: function to time.
        prepare: function that is called before each run and not timed.
        flop: FLOP of one run, if known.
        saved: bytes that a training step saves for backward.
        saved_resnest: bytes that the ResNeSt saves.
        parts: seconds of each part of the model; ``run`` appends to it.
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
    """Runs all cases in turn ``repeats`` times after a warm-up, each after a matrix product.

    Returns:
        Seconds of each case, and of all matrix products.
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
    """Computes medians, ratios to the first case, and shares of the limit.

    Args:
        cases: cases of one setting.
        times: seconds of each case.
        products: seconds of the matrix products.
        limit_size: size of the matrices.

    Returns:
        One row per case: what, model, setting, seconds, faster (ratio to the first case),
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
