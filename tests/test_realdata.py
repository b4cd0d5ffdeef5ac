"""Real images with real annotations, as a user gives them: keys on the command line, no code."""

import pytest
import torch
from detectron2.data import DatasetCatalog

from resnest_d2 import load_config, register_datasets
from resnest_d2.data import read_coco
from resnest_d2.engine import Trainer


def keys(folder, name, train="train.json"):
    sets = f'[["{name}_train", "{train}", "images"], ["{name}_val", "val.json", "images"]]'
    data = ["DATASETS.ROOT", str(folder), "DATASETS.COCO", sets]
    return [*data, "DATASETS.TRAIN", f"('{name}_train',)", "DATASETS.TEST", f"('{name}_val',)"]


def train_two_steps(config, opts, output):
    small = ["INPUT.MIN_SIZE_TRAIN", "(96,)", "SOLVER.MAX_ITER", 2, "OUTPUT_DIR", str(output)]
    cfg = load_config(config, [*opts, *small, "MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", 0])
    cfg.DATASETS.TEST = ()
    trainer = Trainer(cfg)
    trainer.train()
    return cfg, trainer.storage.latest()


def test_nuclei_with_rle_masks(realdata, tmp_path):
    config = "quick_schedules/mask_rcnn_ResNeSt_14_FPN_quick.yaml"
    cfg, latest = train_two_steps(config, keys(realdata / "nuclei", "nuclei"), tmp_path)
    assert (cfg.MODEL.ROI_HEADS.NUM_CLASSES, cfg.INPUT.MASK_FORMAT) == (1, "bitmask")
    assert torch.isfinite(torch.tensor(latest["loss_mask"][0]))
    records = DatasetCatalog.get("nuclei_train")
    assert (len(records), sum(len(r["annotations"]) for r in records)) == (170, 4253)


def test_bccd_boxes(realdata, tmp_path):
    config = "quick_schedules/faster_rcnn_ResNeSt_14_FPN_quick.yaml"
    cfg, latest = train_two_steps(config, keys(realdata / "bccd", "bccd"), tmp_path)
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 3 and latest["loss_box_reg"][0] > 0
    with pytest.raises(ValueError, match="bccd_train have no segmentation"):
        register_datasets(
            load_config(config, [*keys(realdata / "bccd", "bccd"), "MODEL.MASK_ON", "True"])
        )


def test_bccd_as_published_with_an_empty_box(realdata, tmp_path, caplog):
    folder = realdata / "bccd"
    read_coco(str(folder / "train_with_empty_boxes.json"), str(folder / "images"))
    assert "1 annotations have a box that is empty or outside" in caplog.text
    opts = keys(folder, "bccd_empty", "train_with_empty_boxes.json")
    config = "quick_schedules/faster_rcnn_ResNeSt_14_FPN_quick.yaml"
    _, latest = train_two_steps(config, opts, tmp_path)
    assert latest["total_loss"][0] > 0
