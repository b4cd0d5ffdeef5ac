"""AP of an exported file, run in its own engine, beside that of the detector."""

import logging
from collections.abc import Callable
from dataclasses import replace

from torch import nn

from resnest_d2.deploy import optimize_for_inference
from resnest_d2.deploy.export import ExportReport, FileDetector
from resnest_d2.deploy.export.quantizing import EXACT

from .scored_data import Dataset, score


def checked(
    write: Callable[..., ExportReport],
    model: nn.Module,
    data: Dataset,
    *,
    precision: str,
    max_drop: float,
) -> ExportReport:
    """Writes a file and scores it; in int8 again with more in float32 while it loses too much.

    Args:
        write: writes the file; called with ``exact`` and ``overwrite``.
        model: the detector.
        data: what both are scored on.
        precision: precision of the file.
        max_drop: AP that int8 may lose.
    """
    logger = logging.getLogger(__name__)
    before = score(data, optimize_for_inference(model))
    for number, exact in enumerate(EXACT):
        report = write(exact=exact, **({"overwrite": True} if number else {}))
        after = score(data, FileDetector(report.path))
        report = replace(report, before=before, after=after)
        if precision != "int8" or not report.drop > max_drop:
            return report
        more = " Quantizing again with more in float32." if exact != EXACT[-1] else ""
        logger.warning(f"{report.path} loses {report.drop:.2f} AP, over {max_drop:g}.{more}")
    return report
