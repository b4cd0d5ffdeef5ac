"""Metrics of an evaluation: by dataset, as a table, and in results.json."""

import contextlib
import json
import logging
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.utils import comm
from tabulate import tabulate

from resnest_d2.data.coco_api import detection_limit
from resnest_d2.errors import printable
from resnest_d2.files import read_json, whole_file

_TASKS = {"bbox": "box", "segm": "mask", "keypoints": "keypoints"}
TTA = "_TTA"  # suffix of the tasks of an evaluation with test-time augmentation
_METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
_CLASS = "AP-"  # before the name of a class, where a metric is its AP
_LONGEST_NAME, _MOST_CLASSES, _LENGTH, _COLUMNS = 20, 100, 8, 3  # of a table of classes


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
    """Formats box, mask and keypoint AP as a table; what is undefined is a dash.

    Args:
        results: dataset name -> task ("bbox", "segm", "keypoints") -> metric -> percent.
    """
    rows = [
        [printable(name), label, *(metrics.get(metric) for metric in _METRICS)]
        for name, tasks in results.items()
        for label, metrics in _of_boxes(tasks)
    ]
    return _table(rows, ["dataset", "", *_METRICS])


def result_tables(results: dict[str, dict]) -> str:
    """Formats all metrics but those of classes: the AP table, and those of other tasks.

    Args:
        results: as in :func:`ap_table`, with any tasks.
    """
    tables = [ap_table(results)] if any(list(_of_boxes(t)) for t in results.values()) else []
    for name, tasks in results.items():
        for task, metrics in tasks.items():
            if task.removesuffix(TTA) not in _TASKS:
                whole = {key: value for key, value in metrics.items() if "-" not in key}
                row = [printable(name), printable(task), *whole.values()]
                tables.append(_table([row], ["dataset", "", *whole]))
    return "\n\n".join(tables)


def class_table(results: dict[str, dict]) -> str:
    """Formats the AP of each class as a table, in several columns if there are many.

    Args:
        results: as in :func:`ap_table`.

    Returns:
        "" if no dataset has classes, or if one has more than a hundred.
    """
    tables = []
    for name, tasks in results.items():
        found = {
            label: {k.removeprefix(_CLASS): v for k, v in metrics.items() if k.startswith(_CLASS)}
            for label, metrics in _of_boxes(tasks)
        }
        classes = list(dict.fromkeys(class_ for aps in found.values() for class_ in aps))
        if not 0 < len(classes) <= _MOST_CLASSES:
            continue
        rows = [[_short(c), *(aps.get(c) for aps in found.values())] for c in classes]
        columns = min(math.ceil(len(rows) / _LENGTH), _COLUMNS)
        length = math.ceil(len(rows) / columns)
        rows += [[""] * (1 + len(found))] * (length * columns - len(rows))
        beside = [[cell for row in rows[i::length] for cell in row] for i in range(length)]
        heading = "class" if len(results) == 1 else f"class of {printable(name)}"
        tables.append(_table(beside, [heading, *(f"{label} AP" for label in found)] * columns))
    return "\n\n".join(tables)


def _of_boxes(tasks: dict[str, dict]) -> Iterator[tuple[str, dict]]:
    """Label and metrics of the tasks that have COCO's AP; those of augmented evaluations last."""
    for suffix in ("", TTA):
        for task, label in _TASKS.items():
            if metrics := tasks.get(task + suffix):
                yield label + suffix, metrics


def _short(name: str) -> str:
    name = printable(name)
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 3]}..."


def _table(rows: Sequence[Sequence[Any]], headers: Sequence[str]) -> str:
    cells = [[_cell(value) for value in row] for row in rows]
    numbers = [not isinstance(value, str) for value in rows[0]] if rows else []
    align = ["right" if number else "left" for number in numbers]
    return tabulate(
        cells, headers=headers, tablefmt="pipe", colalign=align or None, disable_numparse=True
    )


def _cell(value: Any) -> str:
    """Two decimals, and a dash for a value that is undefined."""
    if isinstance(value, str):
        return value
    return "-" if value is None or math.isnan(value) else f"{value:.2f}"
