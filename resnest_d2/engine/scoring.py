"""COCO metrics by faster-coco-eval: equal to pycocotools' to the last digit, ten times faster.

Matching and accumulation are in C++; loading results and summarizing are pycocotools'. The extra is
``fast-eval``: https://github.com/MiXaiLL76/faster_coco_eval

Shapes: T IoU thresholds, R recalls, K categories, A area ranges, M limits of detections.
"""

from importlib.util import find_spec
from typing import Any

import numpy as np
from detectron2.evaluation import coco_evaluation

from resnest_d2.compat.detectron import can_replace_scoring

# Evaluation parameters with the same names in both libraries.
_SHARED = ("imgIds", "catIds", "iouThrs", "recThrs", "areaRng", "areaRngLbl", "maxDets")


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
        from faster_coco_eval import COCOeval_faster

        params = self.params
        params.imgIds, params.catIds = sorted(set(params.imgIds)), sorted(set(params.catIds))
        params.maxDets = sorted(params.maxDets)
        fast = COCOeval_faster(self.cocoGt, self.cocoDt, params.iouType)
        for name in _SHARED:
            setattr(fast.params, name, getattr(params, name))
        counts = self._counts()  # (K, A)
        # Also at the recall of the second matched annotation, for _as_pycocotools.
        second, index = np.unique(2 / np.maximum(counts, 2), return_inverse=True)
        fast.params.recThrs = np.concatenate([params.recThrs, second])
        fast.evaluate()
        fast.accumulate()
        end = len(params.recThrs)
        precision, more = np.split(fast.eval["precision"], [end], axis=1)  # (T, R, K, A, M)
        index = np.broadcast_to(index.reshape(1, 1, *counts.shape, 1), more[:, :1].shape)
        second = np.take_along_axis(more, index, axis=1)  # (T, 1, K, A, M)
        self.eval = {
            "params": params,
            "counts": list(precision.shape),
            "precision": _as_pycocotools(precision, second, counts),
            "recall": fast.eval["recall"],
            "scores": fast.eval["scores"][:, :end],
        }

    def _counts(self) -> np.ndarray:
        """Number of annotations that are not ignored, by category and area range, (K, A)."""
        counts = np.zeros((len(self.params.catIds), len(self.params.areaRng)), dtype=int)
        row = {category: k for k, category in enumerate(self.params.catIds)}
        low, high = np.array(self.params.areaRng).T
        ids = self.cocoGt.getAnnIds(imgIds=self.params.imgIds, catIds=self.params.catIds)
        for annotation in self.cocoGt.loadAnns(ids):
            if not annotation["iscrowd"]:
                area = annotation["area"]
                counts[row[annotation["category_id"]]] += (low <= area) & (area <= high)
        return counts

    def accumulate(self, p: Any = None) -> None:
        """Accumulates into ``eval``; for boxes and masks :meth:`evaluate` has already done so."""
        if self.params.iouType == "keypoints":
            super().accumulate(p)


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
