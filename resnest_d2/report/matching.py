"""Matching of detections to annotations, image by image.

As in COCO's evaluation, detections are matched in order of falling score, each to the unmatched
annotation of its class that it overlaps most.

Shapes: D detections, G annotations of an image, T overlaps.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pycocotools.mask as mask_util
from pycocotools.coco import COCO

OVERLAPS = (0.5, 0.75)  # lowest IoU of a correct detection
NONE, CROWD = -1, -2  # instead of an annotation's index: unmatched; on a crowd (ignored)


class MatchedImage(NamedTuple):
    """Annotations of an image and its detections in order of falling score.

    ``iou`` is (D, G). ``matches`` (T, D) holds, for each of OVERLAPS, the index of the annotation
    that a detection is matched to, NONE or CROWD.
    """

    image: dict
    truth: list[dict]
    found: list[dict]
    iou: np.ndarray
    matches: np.ndarray

    @property
    def counted(self) -> np.ndarray:
        """Mask of the annotations that count, (G,): all but crowds."""
        return np.array([not a["iscrowd"] for a in self.truth], dtype=bool)


def match_images(api: COCO, detections: list[dict], task: str) -> Iterator[MatchedImage]:
    """Matches detections to annotations in every image of a dataset.

    Args:
        api: annotations, masks as RLE.
        detections: in COCO's result format.
        task: "bbox" or "segm": compute overlaps of boxes or of masks.
    """
    by_image: dict[int, list[dict]] = {}
    for detection in detections:
        by_image.setdefault(detection["image_id"], []).append(detection)
    for image_id, image in api.imgs.items():
        truth = api.imgToAnns.get(image_id, [])
        found = sorted(by_image.get(image_id, []), key=lambda d: -d["score"])
        iou = _overlap(found, truth, task)
        matches = np.stack([_match(found, truth, iou, least=least) for least in OVERLAPS])
        yield MatchedImage(image, truth, found, iou, matches)


def _overlap(found: list[dict], truth: list[dict], task: str) -> np.ndarray:
    """IoU of detections and annotations, (D, G); for a crowd, intersection over detection area."""
    if not found or not truth:
        return np.zeros((len(found), len(truth)))
    key = {"bbox": "bbox", "segm": "segmentation"}[task]
    crowd = [int(a["iscrowd"]) for a in truth]
    return mask_util.iou([d[key] for d in found], [a[key] for a in truth], crowd)


def _match(found: list[dict], truth: list[dict], iou: np.ndarray, *, least: float) -> np.ndarray:
    """Index of each detection's annotation, NONE or CROWD, (D,)."""
    matches = np.full(len(found), NONE)
    if not truth:
        return matches
    classes = np.array([a["category_id"] for a in truth])
    crowd = np.array([bool(a["iscrowd"]) for a in truth])
    free = ~crowd
    for d, detection in enumerate(found):
        same = (classes == detection["category_id"]) & (iou[d] >= least)
        if (same & free).any():
            matches[d] = best = int(np.argmax(np.where(same & free, iou[d], -1)))
            free[best] = False
        elif (same & crowd).any():
            matches[d] = CROWD
    return matches


def judge(matched: MatchedImage, threshold: float) -> np.ndarray:
    """Matches detections from a score on to annotations of any class, at IoU 0.5.

    A detection without a match of its own class is matched to an unmatched annotation of another.

    Args:
        matched: image with D detections, D' of them at or above the threshold.
        threshold: lowest score.

    Returns:
        Index of each detection's annotation, NONE or CROWD, (D',).
    """
    number = sum(d["score"] >= threshold for d in matched.found)
    pairs = matched.matches[0, :number].copy()
    free = matched.counted
    free[pairs[pairs >= 0]] = False
    for d in np.flatnonzero(pairs == NONE):
        if free.any():
            best = int(np.argmax(np.where(free, matched.iou[d], -1)))
            if matched.iou[d, best] >= OVERLAPS[0]:
                pairs[d], free[best] = best, False
    return pairs
