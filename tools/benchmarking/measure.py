"""Times of cases that take turns, compared with matrix products on the same machine.

1 FMA is 2 FLOP everywhere.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from detectron2.utils.analysis import FlopCountAnalysis
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

# Size of the square fp32 matrices whose product is the limit, by device.
LIMIT_SIZE = {"cpu": 2048, "cuda": 8192}


class Skipped(Exception):
    """A case cannot be measured; the message gives the reason."""


@dataclass
class Case:
    """Case to time. Cases of the same ``setting`` are compared with the first of them.

    Attributes:
        what: "backbone", "detector", "training", "scoring", "predict" or "product".
        model: name of the model.
        setting: values such as size, depth, proposals, batch; numbers can be the x axis of a plot.
        run: function to time.
        prepare: function that is called before each run and not timed.
        flop: FLOP of one run, if known.
        saved: bytes that a training step saves for backward.
        saved_resnest: bytes that the ResNeSt saves.
        peak: bytes allocated on the GPU in a run, at most, above those allocated before.
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
    peak: int | None = None
    parts: dict[str, list[float]] = field(default_factory=dict)


def seconds(run: Callable[[], object], *, device: str = "cpu") -> float:
    """Wall time of one call, until its kernels have ended."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def take_turns(
    cases: Sequence[Case], *, repeats: int, limit_size: int | None = None, device: str = "cpu"
) -> tuple[list[list[float]], list[float]]:
    """Runs all cases in turn ``repeats`` times after a warm-up, each after a matrix product.

    On a GPU the warm-up has two runs, and the second gives a case its ``peak``.

    Returns:
        Seconds of each case, and of all matrix products.
    """
    size = limit_size or LIMIT_SIZE[device]
    matrix = torch.rand(size, size, device=device)

    def product() -> None:
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.mm(matrix, matrix)

    product()
    for case in cases:
        case.prepare()
        case.run()
        if device == "cuda":
            case.prepare()
            case.peak = _peak(case.run)
        case.parts.clear()
    times, products = [[] for _ in cases], []
    for _ in range(repeats):
        for own, case in zip(times, cases, strict=True):
            products.append(seconds(product, device=device))
            case.prepare()
            own.append(seconds(case.run, device=device))
    return times, products


def _peak(run: Callable[[], object]) -> int:
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def to_rows(
    cases: Sequence[Case],
    times: Sequence[Sequence[float]],
    products: Iterable[float],
    *,
    limit_size: int = LIMIT_SIZE["cpu"],
) -> list[dict]:
    """Computes medians, ratios to the first case, and shares of the limit.

    Args:
        cases: cases of one setting.
        times: seconds of each case.
        products: seconds of the matrix products.
        limit_size: size of the matrices.

    Returns:
        One row per case: what, model, setting, seconds, faster (ratio to the first case),
        flop, rate and limit (FLOP/s), share (of the limit), saved, saved_resnest and peak (bytes),
        parts (median seconds).
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
                "peak": case.peak,
                "parts": {name: statistics.median(own) for name, own in case.parts.items()},
            }
        )
    return rows


def counted_flop(run: Callable[[], object]) -> float:
    """FLOP of a call, as torch counts them."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def flop_of(model: nn.Module, inputs: object) -> float:
    """FLOP of one forward pass. fvcore counts an FMA once."""
    analysis = FlopCountAnalysis(model, inputs)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return 2 * analysis.total()
