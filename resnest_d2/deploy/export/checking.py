"""Compares the detections of an exported file, or their AP, with the detector's.

Shapes: R detections of the detector, S of the file, M mask size.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from tabulate import tabulate
from torch import nn

from resnest_d2.errors import printable
from resnest_d2.progress import counted

from .file_detector import run_on
from .formats import Run

_TASKS = {"bbox": "box", "segm": "mask"}
BOXES, SCORES, MASKS = 0.1, 1e-3, 1e-2  # tolerances in pixels and probabilities


@dataclass(frozen=True)
class Difference:
    """Differences between a file and the detector on one image.

    Args:
        size: height and width of the image.
        detections: number of detections of the detector.
        unmatched: number of detections of either without a counterpart of the same class, within
            0.1 pixels, 1e-3 in score and 1e-2 in mask probabilities; at least the difference of the
            numbers of detections, because one may be the counterpart of several.
        boxes: largest difference of the sides of matched boxes, in pixels.
        scores: largest difference of matched scores.
        masks: largest difference of matched mask probabilities; None without masks.
    """

    size: tuple[int, int]
    detections: int
    unmatched: int
    boxes: float
    scores: float
    masks: float | None

    @property
    def small(self) -> bool:
        """Whether at most 2% are unmatched, as happens close to a threshold."""
        return self.unmatched <= self.detections // 50

    def __str__(self) -> str:
        text = f"{self.size[0]} x {self.size[1]}: {self.detections} detections"
        if self.detections or self.unmatched:
            text += f", boxes differ by {self.boxes:.1e} pixels, scores by {self.scores:.1e}"
            text += "" if self.masks is None else f", masks by {self.masks:.1e}"
            text += f", {self.unmatched} without a counterpart"
        return text


@dataclass(frozen=True)
class ExportReport:
    """A written file beside the detector that it was made of.

    In 16 or 8 bits detections differ; the AP of both tells by how much it matters.

    Args:
        path: path of the file.
        differences: on each test image.
        before: metrics of the detector in percent, by task; empty if they were not asked for.
        after: metrics of the file.
    """

    path: Path
    differences: tuple[Difference, ...]
    before: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    after: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def drop(self) -> float:
        """Largest loss of box or mask AP, in points; NaN if they were not asked for."""
        losses = [self.before[task]["AP"] - self.after[task]["AP"] for task in self.before]
        return max(losses, default=math.nan)

    def __str__(self) -> str:
        lines = [f"{self.path}, against the detector:", *map(str, self.differences)]
        rows = [
            [_TASKS.get(task, task), printable(metric), value, found, found - value]
            for task, metrics in self.before.items()
            for metric, value in metrics.items()
            if math.isfinite(value)
            for found in [self.after[task][metric]]
        ]
        if rows:
            header = ["", "percent", "detector", "file", "difference"]
            lines += ["", tabulate(rows, header, floatfmt=".2f")]
        return "\n".join(lines)


def compare(size: tuple[int, int], expected: Sequence, found: Sequence) -> Difference:
    """Matches detections regardless of order, since rounding may swap two of equal score.

    Args:
        size: height and width of the image.
        expected: arrays of the detector's boxes, scores, classes and optionally masks.
        found: the same arrays of the file.
    """
    (boxes, scores, classes), (boxes2, scores2, classes2) = expected[:3], found[:3]
    apart = np.abs(boxes[:, None] - boxes2[None]).max(-1)  # (R, S)
    other = np.abs(scores[:, None] - scores2[None])  # (R, S)
    same = (apart <= BOXES) & (other <= SCORES) & (classes[:, None] == classes2[None])
    masks = None
    if len(expected) > 3:
        masks = np.full(apart.shape, np.inf)
        pairs = same.nonzero()
        distances = np.abs(expected[3][pairs[0]] - found[3][pairs[1]])  # (pairs, M, M)
        masks[pairs] = distances.max((1, 2), initial=0)
        same &= masks <= MASKS
    missing, extra = (~same.any(1)).sum(), (~same.any(0)).sum()
    unmatched = int(max(missing, extra, abs(len(boxes) - len(boxes2))))

    def worst(distances: np.ndarray) -> float:
        nearest = np.where(same, distances, np.inf)[same.any(1)]
        return float(nearest.min(1).max(initial=0)) if nearest.size else 0.0

    return Difference(
        size=size,
        detections=len(boxes),
        unmatched=unmatched,
        boxes=worst(apart),
        scores=worst(other),
        masks=None if masks is None else worst(masks),
    )


@torch.no_grad()
def check(
    run: Run,
    detector: nn.Module,
    images: Sequence[torch.Tensor],
    *,
    threshold: float,
    batch: bool = False,
) -> list[Difference]:
    """Compares on every image; on the last one with a threshold of 1, without detections.

    If the detector finds nothing in the other images, the threshold is lowered until it does.

    Args:
        run: runs the file in its engine.
        detector: a :class:`WholeDetector` around the model.
        images: inputs of ``detector``.
        threshold: score threshold.
        batch: whether the file takes several images: each then goes with its mirror image.
    """
    *filled, empty = images
    for lower in range(4):
        limit = threshold / 10**lower
        if any(len(detector(image, torch.tensor(limit))[0]) for image in filled):
            break
    differences = []
    for image, score in counted([*((one, limit) for one in filled), (empty, 1.0)], "Checks"):
        height, width = image.shape[:2] if image.dtype == torch.uint8 else image.shape[1:]
        group = [image, image.flip(-2)] if batch else [image]
        everything = run_on(run, [one.numpy() for one in group], score, batch=batch)
        for one, found in zip(group, everything, strict=True):
            expected = [values.numpy() for values in detector(one, torch.tensor(score))]
            differences.append(compare((height, width), expected, found))
    return differences
