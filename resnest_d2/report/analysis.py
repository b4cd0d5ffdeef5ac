"""The numbers behind the report's figures.

Shapes: T overlaps (0.5 and 0.75), R recalls, K classes, D detections of the whole data set.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from pycocotools.coco import COCO

from resnest_d2.data.coco_api import COCOS_LIMIT, number_images, scored_detections

from .curves import precision_recall
from .matching import CROWD, NONE, OVERLAPS, MatchedImage, match_images
from .mistakes import JudgedImage, judge

SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, np.inf)}  # COCO's, pixels


class Calibration(NamedTuple):
    """How well scores predict whether a detection is right, in B bins of a tenth of the score.

    Bins without detections are left out. ``score`` is the mean score of a bin (B,), ``right`` its
    share of correct detections (T, B), ``number`` its number of detections (B,). ``error`` is the
    expected calibration error: the mean distance of the two over all detections, (T,).
    """

    score: np.ndarray
    right: np.ndarray
    number: np.ndarray
    error: np.ndarray


class Analysis(NamedTuple):
    """Analysis of a run's detections on a dataset.

    Args:
        classes: class names in the order of their ids.
        task: "bbox" or "segm": whether overlaps are of boxes or of masks.
        curves: precision of each task (T, R, K) at recalls 0, 0.01 ... 1; NaN for classes without
            annotations.
        threshold: lowest score of the detections that the fields below count; it has the best F1.
        confusion: annotations (rows) by detected class (columns), (K+1, K+1); the last row and
            column are the background.
        calibration: share of correct detections by score.
        sizes: number of annotations for each of SIZES.
        ids: category ids in the order of the classes.
        images: images with what is right and wrong in them, those with the most mistakes first.
        detections: number of detections.
    """

    classes: list[str]
    task: str
    curves: dict[str, np.ndarray]
    threshold: float
    confusion: np.ndarray
    calibration: Calibration
    sizes: dict[str, int]
    ids: list[int]
    images: list[JudgedImage]
    detections: int


def analyse(
    api: COCO, detections: list[dict], tasks: list[str], *, limit: int = COCOS_LIMIT
) -> Analysis:
    """Computes what the report shows in addition to the evaluator's metrics.

    Args:
        api: annotations, masks as RLE; their images and annotations are numbered in place.
        detections: in COCO's result format.
        tasks: scored tasks, "bbox" and "segm". Everything but the curves uses masks if they were
            scored, else boxes.
        limit: TEST.DETECTIONS_PER_IMAGE.
    """
    numbers = number_images(api)  # in the order that decides between equal scores
    found: dict[int, list[dict]] = {}
    for detection in detections:
        found.setdefault(numbers[detection["image_id"]], []).append(detection)
    ids = sorted(api.cats)
    task = "segm" if "segm" in tasks else "bbox"
    curves, most = {}, scored_detections(limit)
    for one in (*(other for other in tasks if other != task), task):
        images = list(match_images(api, found, one))
        if one in tasks and detections and api.anns:
            curves[one] = precision_recall(images, ids, limit=most)
    threshold = best_threshold(images)
    judged = [judge(matched, threshold) for matched in images]
    areas = np.array([a["area"] for a in api.anns.values() if not a["iscrowd"]])
    return Analysis(
        classes=[api.cats[i]["name"] for i in ids],
        task=task,
        curves=curves,
        threshold=threshold,
        confusion=confusion(judged, ids),
        calibration=calibrate(images),
        sizes={n: int(((low <= areas) & (areas < high)).sum()) for n, (low, high) in SIZES.items()},
        ids=ids,
        images=sorted(judged, key=lambda p: (-p.mistakes.total(), p.matched.image["id"])),
        detections=len(detections),
    )


def _scores_and_hits(images: list[MatchedImage]) -> tuple[np.ndarray, np.ndarray]:
    """Scores (D,) of the detections that count, and whether each is right (T, D)."""
    scores = np.array([d["score"] for p in images for d in p.found])
    matches = np.concatenate([p.matches for p in images], axis=1)
    judged = (matches != CROWD).all(axis=0)
    return scores[judged], matches[:, judged] >= 0


def best_threshold(images: list[MatchedImage]) -> float:
    """Score with the best F1 of precision and recall at IoU 0.5.

    It is 0.5 if no detection is right.
    """
    if not images:
        return 0.5
    scores, hits = _scores_and_hits(images)
    if not hits[0].any():
        return 0.5
    order = np.argsort(-scores, kind="stable")
    scores, right = scores[order], np.cumsum(hits[0][order])
    f1 = 2 * right / (np.arange(1, len(scores) + 1) + sum(p.counted.sum() for p in images))
    f1[:-1][scores[:-1] == scores[1:]] = 0  # a threshold cannot separate equal scores
    return float(scores[np.argmax(f1)])


def confusion(judged: Sequence[JudgedImage], ids: Sequence[int]) -> np.ndarray:
    """Confusion matrix: annotations (rows) by detected class (columns), (K+1, K+1).

    The last row and column are the background; what is poorly located is in both.

    Args:
        judged: images.
        ids: category ids, in the order of rows and columns.
    """
    row = {category: k for k, category in enumerate(ids)}
    table = np.zeros((len(ids) + 1, len(ids) + 1), dtype=int)
    for image in judged:
        truth, missed = image.matched.truth, image.matched.counted
        for detection, g in zip(image.matched.found, image.pairs, strict=False):
            column = row[detection["category_id"]]
            if g >= 0:
                table[row[truth[g]["category_id"]], column] += 1
                missed[g] = False
            elif g == NONE:
                table[-1, column] += 1
        for g in np.flatnonzero(missed):
            table[row[truth[g]["category_id"]], -1] += 1
    return table


def calibrate(images: list[MatchedImage]) -> Calibration:
    """Compares scores with the share of detections that is right."""
    if not any(p.found for p in images):
        nothing = np.zeros(0)
        return Calibration(nothing, np.zeros((len(OVERLAPS), 0)), nothing, np.zeros(len(OVERLAPS)))
    scores, hits = _scores_and_hits(images)
    bins = np.minimum((scores * 10).astype(int), 9)
    used = np.unique(bins)
    number = np.array([(bins == b).sum() for b in used])
    score = np.array([scores[bins == b].mean() for b in used])
    right = np.stack([[hit[bins == b].mean() for b in used] for hit in hits])
    error = (np.abs(right - score) * number).sum(axis=1) / max(number.sum(), 1)
    return Calibration(score, right, number, error)
