"""COCO evaluation of one's own files, and the table at the end."""

import contextlib
import io

import pycocotools.mask as mask_util
from detectron2.evaluation import COCOEvaluator
from tabulate import tabulate

_TASKS = {"bbox": "box", "segm": "mask"}
_METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")


class CocoEvaluator(COCOEvaluator):
    """detectron2's evaluator; takes files that lack what only COCO's own scoring code asks for.

    Many tools leave out ``info``, ``iscrowd`` and ``area``: they mean nothing, 0, and the area of
    the mask, or of the box where there is none. Ids of annotations may begin at 0.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        api = self._coco_api
        api.dataset.setdefault("info", {})
        if 0 in api.anns:  # the scoring code takes the id 0 for "matched with nothing"
            for annotation in api.dataset["annotations"]:
                annotation["id"] += 1
            with contextlib.redirect_stdout(io.StringIO()):
                api.createIndex()
        for annotation in api.anns.values():
            annotation.setdefault("iscrowd", 0)
            if "area" not in annotation:
                has_mask = bool(annotation.get("segmentation"))
                box = annotation["bbox"]
                annotation["area"] = (
                    float(mask_util.area(api.annToRLE(annotation))) if has_mask else box[2] * box[3]
                )


def by_dataset(results: dict, names: list[str]) -> dict[str, dict]:
    """Results of DefaultTrainer.test, which leaves out the name where there is one data set."""
    return {names[0]: results} if len(names) == 1 else results


def ap_table(results: dict[str, dict]) -> str:
    """Box and mask AP as a table.

    Args:
        results: data set name -> task ("bbox", "segm") -> metric -> percent.
    """
    rows = [
        [name, label, *(metrics.get(metric) for metric in _METRICS)]
        for name, tasks in results.items()
        for task, label in _TASKS.items()
        if (metrics := tasks.get(task))
    ]
    return tabulate(rows, headers=["data set", "", *_METRICS], floatfmt=".2f", tablefmt="pipe")
