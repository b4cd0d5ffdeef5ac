"""The HTML report of a run's last evaluation."""

import logging
import shlex
import sys

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.utils import comm

from resnest_d2.errors import UserError
from resnest_d2.report import DataSet, write_report


def report(cfg: CfgNode) -> None:
    """Write OUTPUT_DIR/report.html if TEST.REPORT, on the main process.

    A report that cannot be written is an error in the log: the evaluation before it is not lost.
    Data sets without annotation file in COCO format are left out, and named in the log.
    """
    if not (cfg.TEST.REPORT and comm.is_main_process()):
        return
    logger = logging.getLogger(__name__)
    datasets = []
    for name in cfg.DATASETS.TEST:
        metadata = MetadataCatalog.get(name)
        kind = metadata.get("evaluator_type", "coco")
        if kind != "coco" or not metadata.get("json_file"):
            logger.info(f"No report of {name}: it is of type {kind}, and reports are of COCO's AP.")
            continue
        datasets.append(DataSet(name, metadata.json_file, metadata.get("image_root", "")))
    if not datasets:
        return
    try:
        path = write_report(cfg.OUTPUT_DIR, datasets=datasets, command=shlex.join(sys.argv))
    except Exception as error:  # whatever it is, the run goes on
        logger.error(
            f"{cfg.OUTPUT_DIR} has no new report ({type(error).__name__}: {error}); its metrics "
            "are in results.json. TEST.REPORT False leaves reports out.",
            exc_info=not isinstance(error, UserError),
        )
    else:
        logger.info(f"Report: {path}")
