"""Metrics of an evaluation: by dataset, as a table, and in results.json."""

import contextlib
import json
import logging
import math
import os
from typing import Any

from detectron2.config import CfgNode
from detectron2.utils import comm
from tabulate import tabulate

from resnest_d2.data.coco_api import detection_limit
from resnest_d2.files import read_json, whole_file

_TASKS = {"bbox": "box", "segm": "mask"}
TTA = "_TTA"  # suffix of the tasks of an evaluation with test-time augmentation
_METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def by_dataset(results: dict, names: list[str]) -> dict[str, dict]:
    """Results of DefaultTrainer.test by dataset; it omits the name of a single dataset."""
    return {names[0]: results} if len(names) == 1 else results


def publish(results: dict[str, dict], cfg: CfgNode, *, beside: bool = False) -> None:
    """Logs the AP table and writes results.json, on the main process.

    Args:
        results: results of :func:`by_dataset`.
        cfg: config of the evaluation.
        beside: keep the tasks that are already in the file.
    """
    if not comm.is_main_process():
        return
    folder, limit = cfg.OUTPUT_DIR, detection_limit(cfg.TEST.DETECTIONS_PER_IMAGE)
    path = os.path.join(folder, "results.json")
    if beside and os.path.isfile(path):
        before = read_json(path)
        results = {name: {**before.get(name, {}), **tasks} for name, tasks in results.items()}
    if not beside:
        with contextlib.suppress(FileNotFoundError):  # of the results that are replaced
            os.remove(os.path.join(folder, "weights.json"))
    logging.getLogger(__name__).info(f"Average precision, percent, {limit}:\n{ap_table(results)}")
    with whole_file(path, "w") as file:
        json.dump(_without_nan(results), file, indent=1, allow_nan=False)


def record_weights(folder: str, *, file: str, trained: int | None, training: bool) -> None:
    """Writes which weights results.json is of to weights.json, on the main process.

    Args:
        folder: folder of results.json.
        file: checkpoint of the weights; "" if they have none.
        trained: number of iterations that they were trained for, if it is known.
        training: whether the evaluation is part of the training in this folder.
    """
    if comm.is_main_process():
        with whole_file(os.path.join(folder, "weights.json"), "w") as file_:
            json.dump({"file": file, "trained": trained, "training": training}, file_)


def _without_nan(tree: Any) -> Any:
    """The same with None for NaN, which is not JSON."""
    if isinstance(tree, dict):
        return {key: _without_nan(value) for key, value in tree.items()}
    return None if isinstance(tree, float) and math.isnan(tree) else tree


def defined(results: dict) -> dict:
    """The metrics without those of classes, sizes or datasets that have no objects."""
    return {
        key: defined(value) if isinstance(value, dict) else value
        for key, value in results.items()
        if not (isinstance(value, float) and not math.isfinite(value))
    }


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
