"""A data set of one's own, as a user gives it: keys on the command line, no code.

The images and masks are small.py's; tests/test_realdata.py trains on real ones.
"""

import json

import pytest
import small
import torch
from detectron2.data import DatasetCatalog

from resnest_d2 import load_config, register_datasets
from resnest_d2.data import read_coco

FASTER = "quick_schedules/faster_rcnn_ResNeSt_14_FPN_quick.yaml"
MASK = "quick_schedules/mask_rcnn_ResNeSt_14_FPN_quick.yaml"


@pytest.fixture
def data(tmp_path):
    """A function that writes the data set, its annotations changed as the test wants."""

    def write(change=lambda annotations: None):
        small.write_data(tmp_path / "data")
        for split in ("train", "val"):
            path = tmp_path / "data" / f"{split}.json"
            content = json.loads(path.read_text())
            change(content["annotations"])
            path.write_text(json.dumps(content))
        return tmp_path / "data"

    return write


def without_masks(annotations):
    for annotation in annotations:
        del annotation["segmentation"]


def with_an_empty_box(annotations):
    without_masks(annotations)
    annotations[0]["bbox"][2:] = [0, 0]


def test_rle_masks_are_trained_on(data, tmp_path):
    folder = data()
    cfg, latest = small.train_two_steps(MASK, small.data_keys(folder, "own_rle"), tmp_path)
    assert (cfg.MODEL.ROI_HEADS.NUM_CLASSES, cfg.INPUT.MASK_FORMAT) == (3, "bitmask")
    assert torch.isfinite(torch.tensor(latest["loss_mask"][0]))
    records = DatasetCatalog.get("own_rle_train")
    written = json.loads((folder / "train.json").read_text())["annotations"]
    assert (len(records), sum(len(r["annotations"]) for r in records)) == (4, len(written))
    assert records[0]["annotations"][0]["segmentation"]["size"] == [160, 160]


def test_boxes_alone_train_a_detector_without_masks(data, tmp_path):
    opts = small.data_keys(data(without_masks), "own_boxes")
    cfg, latest = small.train_two_steps(FASTER, opts, tmp_path)
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 3 and latest["loss_box_reg"][0] > 0
    assert "loss_mask" not in latest
    with pytest.raises(ValueError, match="own_boxes_train have no segmentation"):
        register_datasets(load_config(FASTER, [*opts, "MODEL.MASK_ON", "True"]))


def test_an_empty_box_is_named_and_does_not_stop_the_training(data, tmp_path, caplog):
    folder = data(with_an_empty_box)
    read_coco(str(folder / "train.json"), str(folder / "images"))
    assert "1 annotations have a box that is empty or outside" in caplog.text
    assert "are not used: ids 1" in caplog.text
    _, latest = small.train_two_steps(FASTER, small.data_keys(folder, "own_empty"), tmp_path)
    assert latest["total_loss"][0] > 0
