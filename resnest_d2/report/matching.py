"""Matching of detections to annotations, image by image.

As in COCO's evaluation, detections are matched in order of falling score, each to the unmatched
annotation of its class that it overlaps most, the last one of equal overlaps.

Shapes: D detections, G annotations of an image, T overlaps.
"""

from collections.abc import Iterator, Mapping, Sequence
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


def match_images(
    api: COCO, detections: Mapping[int, Sequence[dict]], task: str
) -> Iterator[MatchedImage]:
    """Matches detections to annotations in every image of a dataset.

    Args:
        api: annotations, masks as RLE.
        detections: those of each image's id, in COCO's result format.
        task: "bbox" or "segm": compute overlaps of boxes or of masks.
    """
    for image_id, image in sorted(api.imgs.items()):  # the order decides between equal scores
        truth = api.imgToAnns.get(image_id, [])
        found = sorted(detections.get(image_id, ()), key=lambda d: -d["score"])
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
    crowd = np.array([bool(a["iscrowd"]) for a in truth])
    possible = same_class(found, truth) & (iou >= least)  # (D, G)
    free = ~crowd
    for d in np.flatnonzero(possible.any(axis=1)):
        if (possible[d] & free).any():
            overlaps = np.where(possible[d] & free, iou[d], -1)
            matches[d] = last = len(truth) - 1 - int(np.argmax(overlaps[::-1]))  # of equal ones
            free[last] = False
        elif (possible[d] & crowd).any():
            matches[d] = CROWD
    return matches


def same_class(found: list[dict], truth: list[dict]) -> np.ndarray:
    """Whether detections and annotations have the same class, (D, G)."""
    classes = (np.array([entry["category_id"] for entry in entries]) for entries in (found, truth))
    return np.equal.outer(*classes)
