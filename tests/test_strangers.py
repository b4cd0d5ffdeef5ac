"""Files of strangers: no way from a config, a run's folder, data or weights to their code."""

import os
import pickle

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from resnest_d2.config import check_config, check_unsafe_keys
from resnest_d2.engine.guards import load_training_images
from resnest_d2.engine.loading import build_evaluation_loader
from resnest_d2.errors import UserError


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("evil_was_here",))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, in which no code of a stranger may run."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not os.path.exists("evil_was_here")


READERS = {
    "check_config": check_config,
    "before a prediction": lambda cfg: check_config(cfg, predicting=True),
    "check_unsafe_keys": check_unsafe_keys,
    "training images": load_training_images,
    "evaluation images": lambda cfg: build_evaluation_loader(cfg, "one_image"),
}


@pytest.mark.parametrize("reader", READERS)
def test_proposals_are_never_unpickled(reader, folder, rcnn_cfg):
    with open("proposals.pkl", "wb") as file:
        pickle.dump(Evil(), file)
    DatasetCatalog.register("one_image", lambda: [{"file_name": "a.png", "annotations": [1]}])
    cfg, data = rcnn_cfg, rcnn_cfg.DATASETS
    cfg.MODEL.LOAD_PROPOSALS, data.TRAIN, data.TEST = True, ("one_image",), ("one_image",)
    data.PROPOSAL_FILES_TRAIN = data.PROPOSAL_FILES_TEST = ("proposals.pkl",)
    try:
        with pytest.raises(UserError, match="MODEL.LOAD_PROPOSALS is True: .* any code; set it"):
            READERS[reader](cfg)
    finally:
        DatasetCatalog.remove("one_image")
        MetadataCatalog.pop("one_image", None)
