"""What a run prints when it begins and when it has ended; the log has it, too."""

import logging
import os
from collections.abc import Sequence

from detectron2.config import CfgNode
from detectron2.utils import comm
from tabulate import tabulate

from resnest_d2.data.coco_api import detection_limit
from resnest_d2.files import read_json

from .console import RESULT, SHOWN
from .metrics import class_table, result_tables

_WEIGHTS = "model_final.pth"


def show_beginning(rows: Sequence[tuple[str, str]], *, starts_from: str, folder: str) -> None:
    """Logs what begins, on the main process.

    Args:
        rows: labelled lines, of :mod:`.plan`.
        starts_from: the weights.
        folder: of log.txt.
    """
    if comm.is_main_process():
        rows = [*rows, ("weights", starts_from), ("log", os.path.join(folder, "log.txt"))]
        _log(_lines(rows), SHOWN)


def show_training(cfg: CfgNode) -> None:
    """Logs the result of a training that has ended: its last AP, and where everything is."""
    if not comm.is_main_process():
        return
    folder = cfg.OUTPUT_DIR
    rows = [("weights", os.path.join(folder, _WEIGHTS))]
    record = os.path.join(folder, "best.json")
    if cfg.DATASETS.TEST and os.path.isfile(record):
        best = read_json(record)
        about = f"{_spoken(best['metric'])} {best['value']:.2f} at iteration {best['iteration']}"
        rows.append(("best weights", f"{os.path.join(folder, 'model_best.pth')} ({about})"))
    _show_result(cfg, rows, classes=False)


def show_evaluation(cfg: CfgNode) -> None:
    """Logs the result of an evaluation: AP, that of each class, and where everything is."""
    if comm.is_main_process():
        _show_result(cfg, [("results", os.path.join(cfg.OUTPUT_DIR, "results.json"))], classes=True)


def _show_result(cfg: CfgNode, rows: list[tuple[str, str]], *, classes: bool) -> None:
    folder, path = cfg.OUTPUT_DIR, os.path.join(cfg.OUTPUT_DIR, "results.json")
    results = read_json(path) if cfg.DATASETS.TEST and os.path.isfile(path) else {}
    tables = [result_tables(results), class_table(results) if classes else ""]
    report = os.path.join(folder, "report.html")
    if results and cfg.TEST.REPORT and os.path.isfile(report):
        rows = [*rows, ("report", report)]
    limit = detection_limit(cfg.TEST.DETECTIONS_PER_IMAGE)
    title = f"Average precision, percent, {limit}:\n" if results else ""
    _log("\n" + title + "\n\n".join([*filter(None, tables), _lines(rows)]), RESULT)


def _spoken(metric: str) -> str:
    """A metric of the event storage in words, such as mask AP."""
    names = {"bbox/AP": "box AP", "segm/AP": "mask AP"}
    return next((spoken for name, spoken in names.items() if metric.endswith(name)), metric)


def _lines(rows: Sequence[tuple[str, str]]) -> str:
    return tabulate(rows, tablefmt="plain", disable_numparse=True)


def _log(text: str, extra: dict[str, object]) -> None:
    logging.getLogger(__name__).info(text, extra=extra)
