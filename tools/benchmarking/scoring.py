"""Cases of COCO evaluation, with random detections."""

import contextlib
import copy
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from detectron2.data import DatasetCatalog
from detectron2.structures import Boxes, Instances
from pycocotools.coco import COCO

from resnest_d2.data import register_coco
from resnest_d2.engine import CocoEvaluator
from resnest_d2.engine.scoring import has_fast_scoring

from .measure import Case

PER_IMAGE = 100  # detections
_TASKS = {"boxes": ("bbox",), "masks": ("segm",), "boxes and masks": ("bbox", "segm")}


def scoring_settings(
    annotations: str | None, skip: Callable[[str, str], None]
) -> Iterator[list[Case]]:
    """Evaluates boxes, masks and both with pycocotools, and with faster-coco-eval if installed.

    Args:
        annotations: COCO file with masks; None for the built-in validation set.
        skip: called with the name and the reason of a case that cannot be measured.
    """
    name = "shapes_val"
    if annotations is None:
        DatasetCatalog.get(name)  # draws it on first use
    else:
        name = f"benchmark of {annotations}"
        register_coco(name, annotations, str(Path(annotations).parent / "images"))
    libraries = {"pycocotools": False, "faster-coco-eval": True}
    if not has_fast_scoring():
        libraries.popitem()
        skip("faster-coco-eval", "is not installed: pip install 'resnest-d2[fast-eval]'")
    evaluator = CocoEvaluator(name, distributed=False)
    evaluator.reset()
    for image_id, found in detections(evaluator._coco_api):
        evaluator.process([{"image_id": image_id}], [{"instances": found}])
    for label, tasks in _TASKS.items():
        setting = {"of": label, "detections": PER_IMAGE * len(evaluator._predictions)}
        yield [
            Case("scoring", library, setting, run, prepare=prepare)
            for library, fast in libraries.items()
            for prepare, run in [_score(name, tasks, fast, evaluator._predictions)]
        ]


def _score(
    name: str, tasks: tuple[str, ...], fast: bool, predictions: list[dict]
) -> tuple[Callable[[], None], Callable[[], dict]]:
    evaluator = CocoEvaluator(name, tasks, distributed=False, use_fast_impl=fast)

    def prepare() -> None:
        evaluator._predictions = copy.deepcopy(predictions)  # the evaluation changes their classes

    def run() -> dict:
        with contextlib.redirect_stdout(io.StringIO()):
            return evaluator.evaluate()

    return prepare, run


def detections(api: COCO, *, number: int = PER_IMAGE, seed: int = 0) -> Iterator[tuple]:
    """Yields ``number`` detections per image: its annotations, slightly moved, and ellipses.

    Yields:
        Id of the image, and detectron2's Instances.
    """
    rng = np.random.default_rng(seed)
    row = {category: k for k, category in enumerate(sorted(api.getCatIds()))}
    for image in api.dataset["images"]:
        height, width = image["height"], image["width"]
        y_grid, x_grid = np.ogrid[:height, :width]
        boxes, masks, classes = [], [], []
        for annotation in api.imgToAnns[image["id"]][: number * 3 // 4]:
            x, y, w, h = np.array(annotation["bbox"])
            left, top, right, bottom = rng.normal(0, 0.08, 4) * (w, h, w, h)
            boxes.append([x + left, y + top, x + w + right, y + h + bottom])
            shift = rng.integers(-2, 3, 2)
            masks.append(np.roll(api.annToMask(annotation), shift, (0, 1)).astype(bool))
            classes.append(row[annotation["category_id"]])
        while len(boxes) < number:
            x, y = rng.uniform(0, (width, height))
            a, b = rng.uniform(3, 25, 2)
            boxes.append([x - a, y - b, x + a, y + b])
            masks.append(((x_grid - x) / a) ** 2 + ((y_grid - y) / b) ** 2 <= 1)
            classes.append(int(rng.integers(len(row))))
        found = Instances((height, width))
        found.pred_boxes = Boxes(torch.tensor(np.array(boxes), dtype=torch.float32))
        found.pred_boxes.clip((height, width))
        found.pred_masks = torch.from_numpy(np.stack(masks))
        found.pred_classes = torch.tensor(classes)
        found.scores = torch.tensor(rng.uniform(0.05, 1, number), dtype=torch.float32)
        yield image["id"], found
