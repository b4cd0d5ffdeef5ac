"""COCO evaluation of custom datasets, and the final table of results."""

import contextlib
import logging
import math
from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data.catalog import Metadata
from detectron2.evaluation import (
    COCOEvaluator,
    COCOPanopticEvaluator,
    DatasetEvaluators,
    SemSegEvaluator,
)
from pycocotools.coco import COCO

from resnest_d2.compat.detectron import (
    annotations_of,
    can_replace_scoring,
    reading_annotations,
    scoring,
    set_metadata,
)
from resnest_d2.data.coco import is_ours
from resnest_d2.data.coco_api import (
    COCOS_LIMIT,
    Numbers,
    complete_annotations,
    keep_categories,
    number_ids,
    read_api,
    scored_detections,
)
from resnest_d2.errors import MissingPackageError, UserError

from .scored_classes import scored_classes
from .scoring import FastCocoEval, Results, has_fast_scoring


class CocoEvaluator(COCOEvaluator):
    """detectron2's evaluator; accepts files without the fields that only COCO's own code needs.

    ``use_fast_impl`` (detectron2's default) uses faster-coco-eval if it is installed.
    ``detections`` is TEST.DETECTIONS_PER_IMAGE. Boxes and masks are scored with that limit, but
    with COCO's own 100 if it is lower, which changes nothing.
    """

    def __init__(
        self,
        dataset_name: str,
        *args: Any,
        use_fast_impl: bool = True,
        detections: int = COCOS_LIMIT,
        **kwargs: Any,
    ):
        if (limit := scored_detections(detections)) > COCOS_LIMIT:
            kwargs["max_dets_per_image"] = detections = limit
        self._numbers: Numbers | None = None
        self.fast = use_fast_impl and has_fast_scoring()
        with self._scoring(), reading_annotations(read_api):
            super().__init__(dataset_name, *args, use_fast_impl=use_fast_impl, **kwargs)
        annotations = annotations_of(self)
        metadata = MetadataCatalog.get(dataset_name)
        self._scored = scored_classes(metadata) if is_ours(dataset_name) else None
        if self._scored is not None:
            if self._scored.metadata != metadata:
                metadata = self._scored.metadata
                set_metadata(self, metadata)
            if annotations is not None:
                keep_categories(annotations, self._scored.names)
        if annotations is not None and "annotations" in annotations.dataset:
            complete_annotations(annotations)
            _warn_of_objects(annotations, dataset_name, detections)
            if can_replace_scoring():
                self._numbers = _number(annotations, metadata)

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """See detectron2's ``COCOEvaluator.process``."""
        if self._scored is not None:
            outputs = [self._scored.select(output) for output in outputs]
        super().process(inputs, outputs)

    def evaluate(self, img_ids: list[int] | None = None) -> dict:
        """See detectron2's ``COCOEvaluator.evaluate``.

        Args:
            img_ids: ids of the images to evaluate; all by default.
        """
        if img_ids is not None and self._numbers:
            img_ids = [self._numbers.images[id_] for id_ in img_ids]
        with self._scoring():
            results = super().evaluate(img_ids)
        annotations = annotations_of(self)
        if annotations is not None and any(not a["iscrowd"] for a in annotations.anns.values()):
            for metrics in (results or {}).values():
                if "AP" in metrics and all(math.isnan(value) for value in metrics.values()):
                    # detectron2's result if there are no detections at all.
                    metrics |= {"AP": 0.0, "AP50": 0.0, "AP75": 0.0}
        return results

    def _scoring(self) -> contextlib.AbstractContextManager:
        return scoring(self._prepare, coco_eval=FastCocoEval if self.fast else None)

    def _prepare(self, results: list[dict], task: str) -> list[dict]:
        """The results with the numbers of their ids; the files of results keep the ids."""
        if self._numbers is None:
            return results
        images, categories = self._numbers
        numbered = [
            {
                **result,
                "image_id": images[result["image_id"]],
                "category_id": categories[result["category_id"]],
            }
            for result in results
        ]
        return Results(numbered) if task == "segm" else numbered


def _warn_of_objects(annotations: COCO, dataset_name: str, limit: int) -> None:
    """Logs a warning if AP is undefined, or cannot reach 100."""
    counts = Counter(a["image_id"] for a in annotations.anns.values() if not a["iscrowd"])
    logger = logging.getLogger(__name__)
    if not counts:
        logger.warning(f"{dataset_name} has no objects to evaluate on: its AP is undefined.")
    elif crowded := [count for count in counts.values() if count > limit]:
        logger.warning(
            f"{len(crowded)} images of {dataset_name} have more than {limit} objects, up to "
            f"{max(crowded)}, but only {limit} detections per image are kept; set "
            f"TEST.DETECTIONS_PER_IMAGE {max(crowded)}."
        )


def _number(annotations: COCO, metadata: Metadata) -> Numbers:
    names = list(metadata.thing_classes)
    categories = metadata.get("thing_dataset_id_to_contiguous_id") or {
        category["id"]: i for i, category in enumerate(annotations.dataset["categories"])
    }
    return number_ids(annotations, categories, names)


_EVALUATORS = {  # by evaluator_type of a dataset's metadata
    "coco": (CocoEvaluator,),
    "sem_seg": (SemSegEvaluator,),
    "coco_panoptic_seg": (SemSegEvaluator, CocoEvaluator, COCOPanopticEvaluator),
}


def build_evaluator(
    dataset_name: str,
    folder: str,
    *,
    detections: int = COCOS_LIMIT,
    sigmas: Sequence[float] = (),
) -> DatasetEvaluators:
    """Builds the evaluator of a dataset from its metadata's evaluator_type.

    Args:
        dataset_name: name of a registered dataset.
        folder: output folder of the results.
        detections: TEST.DETECTIONS_PER_IMAGE, see :class:`CocoEvaluator`.
        sigmas: TEST.KEYPOINT_OKS_SIGMAS, one for each keypoint; COCO's if empty.

    Raises:
        MissingPackageError, UserError: see :func:`check_evaluation`.
    """
    # Without faster-coco-eval use pycocotools, not a compiled class that detectron2 may have.
    own = {
        "use_fast_impl": has_fast_scoring(),
        "detections": detections,
        "kpt_oks_sigmas": tuple(sigmas),
    }
    options: dict[type, dict] = {CocoEvaluator: own}
    return DatasetEvaluators(
        [
            evaluator(dataset_name, output_dir=folder, **options.get(evaluator, {}))
            for evaluator in _evaluators(dataset_name)
        ]
    )


def _evaluators(dataset_name: str) -> tuple[type, ...]:
    kind = MetadataCatalog.get(dataset_name).get("evaluator_type", "coco")
    if kind not in _EVALUATORS:
        raise UserError(
            f"{dataset_name} has evaluator_type {kind}; choose from {', '.join(_EVALUATORS)}, or "
            "leave it out of DATASETS.TEST."
        )
    if COCOPanopticEvaluator in _EVALUATORS[kind] and find_spec("panopticapi") is None:
        raise MissingPackageError(
            f"{dataset_name} needs panopticapi: pip install "
            "git+https://github.com/cocodataset/panopticapi.git"
        )
    return _EVALUATORS[kind]


def main_metric(cfg: CfgNode) -> str:
    """Name of the AP for comparing evaluations: of masks, or of boxes for detectors without masks.

    It is the AP on the first dataset in DATASETS.TEST, under the name that detectron2's EvalHook
    stores it by.
    """
    names = cfg.DATASETS.TEST
    prefix = f"{names[0]}/" if len(names) > 1 else ""
    return f"{prefix}{'segm' if cfg.MODEL.MASK_ON else 'bbox'}/AP"


def check_evaluation(cfg: CfgNode) -> None:
    """Checks, before training starts, that every dataset can be evaluated.

    Raises:
        MissingPackageError: panoptic evaluation without panopticapi.
        UserError: a dataset has a type without an evaluator.
    """
    for name in cfg.DATASETS.TEST:
        _evaluators(name)
