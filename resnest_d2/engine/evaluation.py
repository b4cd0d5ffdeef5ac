"""COCO evaluation of custom datasets, and the final table of results."""

import contextlib
import json
import logging
import os
from importlib.util import find_spec
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import (
    COCOEvaluator,
    COCOPanopticEvaluator,
    DatasetEvaluators,
    SemSegEvaluator,
)
from detectron2.utils import comm
from tabulate import tabulate

from resnest_d2.compat.detectron import annotations_of, reading_annotations
from resnest_d2.data.coco_api import complete_annotations, read_api
from resnest_d2.errors import MissingPackageError, UserError
from resnest_d2.files import read_json, whole_file

from .scoring import fast_scoring, has_fast_scoring

_TASKS = {"bbox": "box", "segm": "mask"}
TTA = "_TTA"  # suffix of the tasks of an evaluation with test-time augmentation
_METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")


class CocoEvaluator(COCOEvaluator):
    """detectron2's evaluator; accepts files without the fields that only COCO's own code needs.

    ``use_fast_impl`` (detectron2's default) uses faster-coco-eval if it is installed.
    """

    def __init__(self, *args: Any, use_fast_impl: bool = True, **kwargs: Any):
        with fast_scoring(), reading_annotations(read_api):
            super().__init__(*args, use_fast_impl=use_fast_impl, **kwargs)
        self.fast = use_fast_impl
        if (annotations := annotations_of(self)) is not None:
            complete_annotations(annotations)

    def evaluate(self, img_ids: list[int] | None = None) -> dict:
        """See detectron2's ``COCOEvaluator.evaluate``.

        Args:
            img_ids: ids of the images to evaluate; all by default.
        """
        with fast_scoring() if self.fast else contextlib.nullcontext():
            return super().evaluate(img_ids)


_EVALUATORS = {  # by evaluator_type of a dataset's metadata
    "coco": (CocoEvaluator,),
    "sem_seg": (SemSegEvaluator,),
    "coco_panoptic_seg": (SemSegEvaluator, CocoEvaluator, COCOPanopticEvaluator),
}


def build_evaluator(dataset_name: str, folder: str) -> DatasetEvaluators:
    """Builds the evaluator of a dataset from its metadata's evaluator_type.

    Args:
        dataset_name: name of a registered dataset.
        folder: output folder of the results.

    Raises:
        MissingPackageError, UserError: see :func:`check_evaluation`.
    """
    # Without faster-coco-eval use pycocotools, not a compiled class that detectron2 may have.
    options: dict[type, dict] = {CocoEvaluator: {"use_fast_impl": has_fast_scoring()}}
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


def by_dataset(results: dict, names: list[str]) -> dict[str, dict]:
    """Results of DefaultTrainer.test by dataset; it omits the name of a single dataset."""
    return {names[0]: results} if len(names) == 1 else results


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


def publish(results: dict[str, dict], folder: str, *, beside: bool = False) -> None:
    """Logs the AP table and writes results.json, on the main process.

    Args:
        results: results of :func:`by_dataset`.
        folder: output folder of the file.
        beside: keep the tasks that are already in the file.
    """
    if not comm.is_main_process():
        return
    path = os.path.join(folder, "results.json")
    if beside and os.path.isfile(path):
        before = read_json(path)
        results = {name: {**before.get(name, {}), **tasks} for name, tasks in results.items()}
    logging.getLogger(__name__).info(f"Average precision, percent:\n{ap_table(results)}")
    with whole_file(path, "w") as file:
        json.dump(results, file, indent=1)


def ap_table(results: dict[str, dict]) -> str:
    """Formats box and mask AP as a table.

    Args:
        results: dataset name -> task ("bbox", "segm") -> metric -> percent.
    """
    rows = [
        [name, label + suffix, *(metrics.get(metric) for metric in _METRICS)]
        for name, tasks in results.items()
        for suffix in ("", TTA)
        for task, label in _TASKS.items()
        if (metrics := tasks.get(task + suffix))
    ]
    return tabulate(rows, headers=["dataset", "", *_METRICS], floatfmt=".2f", tablefmt="pipe")
