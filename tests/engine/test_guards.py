import logging

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from resnest_d2.engine.guards import load_training_images, warn_of_small_data


@pytest.fixture
def registered():
    """A function that registers one image with the given annotations as the data set "one"."""

    def register(*annotations):
        record = {"file_name": "a.png", "height": 8, "width": 8, "annotations": list(annotations)}
        DatasetCatalog.register("one", lambda: [record])
        MetadataCatalog.get("one").thing_classes = ["cat"]

    yield register
    DatasetCatalog.remove("one")
    MetadataCatalog.remove("one")


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ([], "No valid data found in one"),
        ([{"category_id": 0, "iscrowd": 1}], "No valid data found in one"),
        ([{"category_id": 3}], "invalid category_id=3 for a dataset of 1 classes"),
    ],
)
def test_refuses_data_to_learn_nothing_from(annotations, message, registered, rcnn_cfg):
    registered(*annotations)
    rcnn_cfg.DATASETS.TRAIN = ("one",)
    with pytest.raises(ValueError, match=message):
        load_training_images(rcnn_cfg)


def test_refuses_no_data(rcnn_cfg):
    with pytest.raises(ValueError, match="DATASETS.TRAIN is empty; give --data, or set"):
        load_training_images(rcnn_cfg)


def test_says_that_a_batch_is_larger_than_the_data(registered, rcnn_cfg, caplog, monkeypatch):
    registered({"category_id": 0})
    rcnn_cfg.DATASETS.TRAIN = ("one",)
    images = load_training_images(rcnn_cfg)
    monkeypatch.setattr(logging.getLogger("resnest_d2"), "propagate", True)
    rcnn_cfg.SOLVER.IMS_PER_BATCH = 1
    warn_of_small_data(rcnn_cfg, images)
    assert "fewer than" not in caplog.text
    rcnn_cfg.SOLVER.IMS_PER_BATCH = 2
    warn_of_small_data(rcnn_cfg, images)
    assert "one has 1 images" in caplog.text and "IMS_PER_BATCH 2" in caplog.text


def test_says_how_much_is_too_small_to_train_on(registered, rcnn_cfg, caplog, monkeypatch):
    boxes = [{"category_id": 0, "bbox": [0, 0, side, 4], "bbox_mode": 1} for side in (0.5, 4)]
    registered(*boxes)
    rcnn_cfg.DATASETS.TRAIN = ("one",)
    monkeypatch.setattr(logging.getLogger("resnest_d2"), "propagate", True)
    load_training_images(rcnn_cfg)
    assert "Not trained on" not in caplog.text
    rcnn_cfg.DATALOADER.MIN_BOX_SIZE = 1
    assert load_training_images(rcnn_cfg)[0]["annotations"] == boxes[1:]
    assert "Not trained on: 0 of the 1 images of one" in caplog.text
    assert "and 1 boxes" in caplog.text and "MIN_BOX_SIZE (1 pixels)" in caplog.text
