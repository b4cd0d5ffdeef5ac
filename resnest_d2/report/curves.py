"""Precision and recall from matched images: COCO's curves, without matching them again.

Shapes: T overlaps, R recalls, K classes, D detections of a class in the whole data set.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from .matching import CROWD, OVERLAPS, MatchedImage

RECALLS = np.linspace(0, 1, 101)


def precision_recall(
    images: Sequence[MatchedImage], classes: Sequence[int], *, limit: int
) -> np.ndarray:
    """Precision at each recall as COCOeval accumulates it, (T, R, K); NaN without annotations.

    Its mean over R and K is AP50 and AP75.

    Args:
        images: matched images, in the order of their ids.
        classes: ids of the categories.
        limit: most detections of a class in an image that count.
    """
    number = Counter(
        a["category_id"] for p in images for a, one in zip(p.truth, p.counted, strict=True) if one
    )
    scores: dict[int, list[float]] = {k: [] for k in classes}
    matches: dict[int, list[np.ndarray]] = {k: [] for k in classes}
    for matched in images:
        taken: Counter[int] = Counter()
        for d, detection in enumerate(matched.found):
            category = detection["category_id"]
            taken[category] += 1
            if taken[category] <= limit:
                scores[category].append(detection["score"])
                matches[category].append(matched.matches[:, d])
    curves = np.full((len(OVERLAPS), len(RECALLS), len(classes)), np.nan)
    for k, category in enumerate(classes):
        if number[category]:
            order = np.argsort(-np.array(scores[category]), kind="stable")
            table = np.array(matches[category]).reshape(-1, len(OVERLAPS))[order].T  # (T, D)
            curves[:, :, k] = [_curve(row, number[category]) for row in table]
    return curves


def _curve(matches: np.ndarray, number: int) -> np.ndarray:
    """Precision of one class at each of RECALLS, (R,).

    Args:
        matches: annotations of the detections in order of falling score, (D,).
        number: number of annotations.
    """
    judged = matches[matches != CROWD]
    right = np.cumsum(judged >= 0)
    precision = right / (np.arange(1, len(judged) + 1) + np.spacing(1))  # as COCO rounds it
    highest = np.maximum.accumulate(precision[::-1])[::-1]  # at this recall or a higher one
    first = np.searchsorted(right / number, RECALLS, side="left")
    return np.append(highest, 0.0)[np.minimum(first, len(judged))]
