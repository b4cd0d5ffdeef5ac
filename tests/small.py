"""A small data set on disk and a training of seconds, for tests of commands."""

import json
import logging
from pathlib import Path

from resnest_d2.data.shapes import prepare_shapes

FASTER = "quick_schedules/faster_rcnn_ResNeSt_14_FPN_quick.yaml"
# For any R-CNN config: two iterations of a narrow detector on small images, from scratch.
KEYS = """
    SOLVER.MAX_ITER 2 SOLVER.STEPS (1,) SOLVER.IMS_PER_BATCH 2 SOLVER.WARMUP_ITERS 0
    SOLVER.REFERENCE_WORLD_SIZE 0 DATALOADER.NUM_WORKERS 0 INPUT.MIN_SIZE_TRAIN (64,)
    INPUT.MIN_SIZE_TRAIN_SAMPLING choice INPUT.MIN_SIZE_TEST 64
    MODEL.FPN.OUT_CHANNELS 32 MODEL.ROI_BOX_HEAD.FC_DIM 32
    MODEL.ROI_MASK_HEAD.CONV_DIM 32 MODEL.ROI_HEADS.SCORE_THRESH_TEST 0.0
""".split()


def write_data(folder: Path) -> None:
    """train.json and val.json with their images in images/: four and three of the shapes."""
    source = Path(prepare_shapes())
    (folder / "images").mkdir(parents=True)
    for split, number in (("train", 4), ("val", 3)):
        content = json.loads((source / f"shapes_{split}.json").read_text())
        content["images"] = content["images"][:number]
        ids = {image["id"] for image in content["images"]}
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] in ids]
        for image in content["images"]:
            name = image["file_name"]
            image["file_name"] = f"{split}_{name}"
            pixels = (source / f"shapes_{split}" / name).read_bytes()
            (folder / "images" / image["file_name"]).write_bytes(pixels)
        (folder / f"{split}.json").write_text(json.dumps(content))


def merge(folder: Path, names: tuple[str, ...], target: str) -> None:
    """One file of several with the same categories, its ids numbered again."""
    images: list[dict] = []
    annotations: list[dict] = []
    for name in names:
        content = json.loads((folder / f"{name}.json").read_text())
        ids = {image["id"]: len(images) + i for i, image in enumerate(content["images"], 1)}
        images += [{**image, "id": ids[image["id"]]} for image in content["images"]]
        for annotation in content["annotations"]:
            numbers = {"id": len(annotations) + 1, "image_id": ids[annotation["image_id"]]}
            annotations.append({**annotation, **numbers})
    merged = {**content, "images": images, "annotations": annotations}
    (folder / f"{target}.json").write_text(json.dumps(merged))


def data_keys(folder: Path, name: str) -> list[str]:
    """Keys for train.json and val.json of a folder, registered as NAME_train and NAME_val."""
    sets = f'[["{name}_train", "train.json", "images"], ["{name}_val", "val.json", "images"]]'
    data = ["DATASETS.ROOT", str(folder), "DATASETS.COCO", sets]
    return [*data, "DATASETS.TRAIN", f"('{name}_train',)", "DATASETS.TEST", f"('{name}_val',)"]


def train_two_steps(config: str, opts: list, output: Path) -> tuple:
    """The config that two iterations were trained with, and their last figures."""
    from resnest_d2 import load_config, register_datasets
    from resnest_d2.engine import Trainer

    small = ["INPUT.MIN_SIZE_TRAIN", "(96,)", "SOLVER.MAX_ITER", 2, "OUTPUT_DIR", str(output)]
    cfg = load_config(config, [*opts, *small, "MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", 0])
    register_datasets(cfg)
    cfg.DATASETS.TEST = ()
    trainer = Trainer(cfg)
    trainer.train()
    return cfg, trainer.storage.latest()


def forget_logs() -> None:
    """Take off the handlers of a run in this process, whose standard output is gone."""
    from detectron2.utils import logger

    from resnest_d2.engine.logs import ending_logs

    with ending_logs():
        pass
    getattr(logger.setup_logger, "cache_clear", lambda: None)()
    for name in ("detectron2", "fvcore", "resnest_d2"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
