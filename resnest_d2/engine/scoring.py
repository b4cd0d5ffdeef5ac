"""COCO metrics by faster-coco-eval: equal to pycocotools' to the last digit, ten times faster.

Matching and accumulation are in C++; loading results and summarizing are pycocotools'. The extra is
``fast-eval``: https://github.com/MiXaiLL76/faster_coco_eval

Shapes: T IoU thresholds, R recalls, K categories, A area ranges, M limits of detections.
"""

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from detectron2.evaluation import coco_evaluation
from pycocotools.coco import COCO

from resnest_d2.compat.detectron import can_replace_scoring

# Evaluation parameters with the same names in both libraries.
_SHARED = ("iouThrs", "areaRng", "areaRngLbl", "maxDets")
PAIRS = 200_000  # of an image and a category that are scored at a time


class FastCocoEval(coco_evaluation.COCOevalMaxDets):
    """pycocotools' evaluation with boxes and masks matched by faster-coco-eval, for any maxDets.

    Keypoints are evaluated by pycocotools. As in detectron2's compiled
    class, ``evalImgs`` stays empty.
    """

    def evaluate(self) -> None:
        """Matches detections with annotations, and accumulates into ``eval``."""
        if self.params.iouType == "keypoints":
            super().evaluate()
            return
        params = self.params
        params.imgIds, params.catIds = sorted(set(params.imgIds)), sorted(set(params.catIds))
        params.maxDets = sorted(params.maxDets)
        truth, found = (_by_category(api, params) for api in (self.cocoGt, self.cocoDt))
        sizes = [len(truth[k]) + len(found[k]) for k in params.catIds]
        parts = [
            self._evaluate(
                params.catIds[first:last],
                _part(self.cocoGt, truth, params.catIds[first:last]),
                _part(self.cocoDt, found, params.catIds[first:last]),
            )
            for first, last in groups(sizes)
        ]
        precision, recall, scores = (
            np.concatenate([part[key] for part in parts], axis=axis)
            for key, axis in (("precision", 2), ("recall", 1), ("scores", 2))
        )
        self.eval = {
            "params": params,
            "counts": list(precision.shape),
            "precision": precision,
            "recall": recall,
            "scores": scores,
        }

    def _evaluate(self, categories: list[int], truth: COCO, found: COCO) -> dict[str, np.ndarray]:
        """Precision, recall and scores of some categories."""
        from faster_coco_eval import COCOeval_faster

        params = self.params
        fast = COCOeval_faster(truth, found, params.iouType)
        for name in _SHARED:
            setattr(fast.params, name, getattr(params, name))
        images = sorted({*truth.imgToAnns, *found.imgToAnns})
        fast.params.imgIds, fast.params.catIds = images or params.imgIds[:1], categories
        counts = self._counts(truth, categories)  # (K, A)
        # Also at the recall of the second matched annotation, for _as_pycocotools.
        second, index = np.unique(2 / np.maximum(counts, 2), return_inverse=True)
        fast.params.recThrs = np.concatenate([params.recThrs, second])
        fast.evaluate()
        fast.accumulate()
        for annotation in found.anns.values():
            annotation.pop("rle", None)  # of faster-coco-eval, as large as the detection
        end = len(params.recThrs)
        precision, more = np.split(fast.eval["precision"], [end], axis=1)  # (T, R, K, A, M)
        index = np.broadcast_to(index.reshape(1, 1, *counts.shape, 1), more[:, :1].shape)
        second = np.take_along_axis(more, index, axis=1)  # (T, 1, K, A, M)
        return {
            "precision": _as_pycocotools(precision, second, counts),
            "recall": fast.eval["recall"],
            "scores": fast.eval["scores"][:, :end],
        }

    def _counts(self, truth: COCO, categories: list[int]) -> np.ndarray:
        """Number of annotations that are not ignored, by category and area range, (K, A)."""
        counts = np.zeros((len(categories), len(self.params.areaRng)), dtype=int)
        row = {category: k for k, category in enumerate(categories)}
        low, high = np.array(self.params.areaRng).T
        for annotation in truth.anns.values():
            if not annotation["iscrowd"]:
                area = annotation["area"]
                counts[row[annotation["category_id"]]] += (low <= area) & (area <= high)
        return counts

    def accumulate(self, p: Any = None) -> None:
        """Accumulates into ``eval``; for boxes and masks :meth:`evaluate` has already done so."""
        if self.params.iouType == "keypoints":
            super().accumulate(p)


def groups(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Divides categories into groups that are scored at a time.

    faster-coco-eval holds a kilobyte and more for every pair of an image and a category, most of
    which are empty: for 118,000 images and 80 categories more than 10 GB.

    Args:
        sizes: number of annotations and detections of each category.

    Yields:
        First category of a group, and the one behind its last.
    """
    first, total = 0, 0
    for k, size in enumerate(sizes):
        total += size
        if k > first and total * (k + 1 - first) > PAIRS:
            yield first, k
            first, total = k, size
    yield first, len(sizes)


def _by_category(api: COCO, params: Any) -> dict[int, list[dict]]:
    """Annotations of the evaluated images by category, in the order of the images."""
    by_category: dict[int, list[dict]] = {k: [] for k in params.catIds}
    for image in params.imgIds:
        for annotation in api.imgToAnns.get(image, ()):
            if annotation["category_id"] in by_category:
                by_category[annotation["category_id"]].append(annotation)
    return by_category


def _part(api: COCO, by_category: dict[int, list[dict]], categories: list[int]) -> COCO:
    """The annotations of some categories, not copied."""
    part = COCO()
    part.dataset, part.imgs, part.cats = api.dataset, api.imgs, api.cats
    for category in categories:
        for annotation in by_category[category]:
            part.anns[annotation["id"]] = annotation
            part.imgToAnns[annotation["image_id"]].append(annotation)
    return part


def _as_pycocotools(precision: np.ndarray, second: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Rounds precision as pycocotools does.

    pycocotools adds the spacing of 1 to the number of detections that it divides by, which only
    changes 1: if only the first detection is correct, precision is one digit below 1.

    Args:
        precision: (T, R, K, A, M).
        second: precision at the recall of two matched annotations, (T, 1, K, A, M).
        counts: number of annotations, (K, A).
    """
    alone = (precision == 1) & ((second < 1) | (counts[..., None] < 2))
    return np.where(alone, 1 / (1 + np.spacing(1)), precision)


class Results(list):
    """Predictions whose deep copy shares masks: copying them takes longer than the evaluation."""

    def __deepcopy__(self, memo: dict) -> list[dict]:
        return [dict(result) for result in self]


def has_fast_scoring() -> bool:
    """Whether faster-coco-eval is installed and detectron2's evaluator can use it."""
    return find_spec("faster_coco_eval") is not None and can_replace_scoring()
