"""HTML report of a run's last evaluation."""

import logging
import shlex
import sys

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.utils import comm

from resnest_d2.errors import UserError
from resnest_d2.report import DataSet, write_report


def report(cfg: CfgNode) -> None:
    """Writes OUTPUT_DIR/report.html if TEST.REPORT, on the main process.

    If the report fails, an error is logged and the evaluation's results are kept. Datasets without
    an annotation file in COCO format are skipped, which is logged.
    """
    if not (cfg.TEST.REPORT and comm.is_main_process()):
        return
    logger = logging.getLogger(__name__)
    datasets = []
    for name in cfg.DATASETS.TEST:
        metadata = MetadataCatalog.get(name)
        kind = metadata.get("evaluator_type", "coco")
        if kind != "coco" or not metadata.get("json_file"):
            logger.info(f"No report of {name}: reports need COCO's AP, but its type is {kind}.")
            continue
        datasets.append(DataSet(name, metadata.json_file, metadata.get("image_root", "")))
    if not datasets:
        return
    try:
        path = write_report(cfg.OUTPUT_DIR, datasets=datasets, command=shlex.join(sys.argv))
    except Exception as error:  # the run continues after any error
        logger.error(
            f"{cfg.OUTPUT_DIR} has no new report ({type(error).__name__}: {error}); its metrics "
            "are in results.json. TEST.REPORT False disables reports.",
            exc_info=not isinstance(error, UserError),
        )
    else:
        logger.info(f"Report: {path}")
