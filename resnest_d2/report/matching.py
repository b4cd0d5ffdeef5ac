"""Which detection stands on which annotation, image by image.

As in COCO's scoring: detections choose by falling score the annotation of their class that they
overlap most and that is still free. Shapes: D detections, G annotations of an image, T overlaps.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pycocotools.mask as mask_util
from pycocotools.coco import COCO

OVERLAPS = (0.5, 0.75)  # intersection over union from which a detection is right
NONE, CROWD = -1, -2  # in place of an annotation's index: on nothing, on a crowd (not judged)


class MatchedImage(NamedTuple):
    """Annotations and detections of an image, the latter by falling score.

    ``iou`` is (D, G); ``matches`` (T, D) holds for each of OVERLAPS the index of the annotation
    that a detection stands on, NONE or CROWD.
    """

    image: dict
    truth: list[dict]
    found: list[dict]
    iou: np.ndarray
    matches: np.ndarray

    @property
    def counted(self) -> np.ndarray:
        """Which annotations count, (G,): all but crowds."""
        return np.array([not a["iscrowd"] for a in self.truth], dtype=bool)


def match_images(api: COCO, detections: list[dict], task: str) -> Iterator[MatchedImage]:
    """Match every image of a data set.

    Args:
        api: annotations, masks as RLE.
        detections: in COCO's result format.
        task: "bbox" or "segm", by what overlap is computed.
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
    """Intersection over union, (D, G); a crowd's is over the area of the detection."""
    if not found or not truth:
        return np.zeros((len(found), len(truth)))
    key = {"bbox": "bbox", "segm": "segmentation"}[task]
    crowd = [int(a["iscrowd"]) for a in truth]
    return mask_util.iou([d[key] for d in found], [a[key] for a in truth], crowd)


def _match(found: list[dict], truth: list[dict], iou: np.ndarray, *, least: float) -> np.ndarray:
    """The annotation of each detection, (D,)."""
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
    """What the detections from a score on stand on, whatever its class, at overlap 0.5.

    Those that found nothing of their class take what is still free of another.

    Args:
        matched: image with D detections, D' of them at or above the threshold.
        threshold: the least score.

    Returns:
        Index of an annotation, NONE or CROWD, (D',).
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
