"""COCO's scores by faster-coco-eval: pycocotools' to the last digit, in a tenth of the time.

It matches and accumulates in C++; reading results and summing up stay as they are. The extra is
``fast-eval``: https://github.com/MiXaiLL76/faster_coco_eval

Shapes: T overlap thresholds, R recalls, K categories, A ranges of area, M limits of detections.
"""

from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import Any

import numpy as np
from detectron2.evaluation import coco_evaluation

from resnest_d2.compat.detectron import can_replace_scoring, scoring

# Parameters of the scoring, of the same names in both libraries.
_SHARED = ("imgIds", "catIds", "iouThrs", "recThrs", "areaRng", "areaRngLbl", "maxDets")


class FastCocoEval(coco_evaluation.COCOevalMaxDets):
    """pycocotools' scoring with boxes and masks matched by faster-coco-eval, any maxDets.

    Keypoints, and images whose ids are text, stay with pycocotools. As in detectron2's compiled
    class, ``evalImgs`` stays empty.
    """

    def _stays(self) -> bool:
        texts = any(isinstance(id_, str) for id_ in self.params.imgIds)
        return texts or self.params.iouType == "keypoints"

    def evaluate(self) -> None:
        """Match detections with annotations, and accumulate into ``eval``."""
        if self._stays():
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
        # Precision also where a second annotation is found, for _as_pycocotools.
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
        """Annotations that count, by category and range of area, (K, A)."""
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
        """Precision and recall into ``eval``; of boxes and masks they are there already."""
        if self._stays():
            super().accumulate(p)


def _as_pycocotools(precision: np.ndarray, second: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Precision with pycocotools' rounding.

    It divides by the number of detections plus the spacing of 1, which is lost in every number but
    1: where the first detection is right and no more than that, precision is a digit below 1.

    Args:
        precision: (T, R, K, A, M).
        second: the same where two annotations are found, (T, 1, K, A, M).
        counts: annotations, (K, A).
    """
    alone = (precision == 1) & ((second < 1) | (counts[..., None] < 2))
    return np.where(alone, 1 / (1 + np.spacing(1)), precision)


class _Results(list):
    """Predictions whose deep copy keeps their masks: copying those takes longer than scoring."""

    def __deepcopy__(self, memo: dict) -> list[dict]:
        return [dict(result) for result in self]


def has_fast_scoring() -> bool:
    """Whether faster-coco-eval is installed, and detectron2's evaluator takes it."""
    return find_spec("faster_coco_eval") is not None and can_replace_scoring()


def fast_scoring() -> AbstractContextManager:
    """Have detectron2's evaluator take :class:`FastCocoEval` for its compiled class, if it can."""
    return scoring(FastCocoEval, _Results) if has_fast_scoring() else nullcontext()
