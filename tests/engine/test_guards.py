import logging

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from resnest_d2.engine.guards import check_training, load_training_images, warn_of_small_data


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["SOLVER.EPOCHS", -1], "SOLVER.EPOCHS is -1"),
        (["TEST.EVAL_EPOCHS", -2], "TEST.EVAL_EPOCHS is -2"),
        (["SOLVER.EARLY_STOPPING.ENABLED", True], "TEST.EVAL_PERIOD 0"),
        (
            ["SOLVER.EARLY_STOPPING.ENABLED", True, "SOLVER.EARLY_STOPPING.PATIENCE", 0],
            "PATIENCE is 0",
        ),
        (["TEST.VALIDATION_LOSS", True, "DATASETS.TEST", ()], "DATASETS.TEST is empty"),
        (["MODEL.EMA.ENABLED", True, "MODEL.EMA.DECAY", 1.0], "DECAY is 1.0"),
        (["MODEL.EMA.ENABLED", True, "TEST.PRECISE_BN.ENABLED", True], "PRECISE_BN.ENABLED are"),
    ],
)
def test_refuses_keys_that_contradict(keys, message, rcnn_cfg):
    rcnn_cfg.DATASETS.TEST = ("some",)
    check_training(rcnn_cfg)
    rcnn_cfg.merge_from_list(keys)
    with pytest.raises(ValueError, match=message):
        check_training(rcnn_cfg)


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
    with pytest.raises(ValueError, match="DATASETS.TRAIN is empty"):
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
