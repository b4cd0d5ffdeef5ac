"""What the tests share: where data and fixtures lie, and a cache folder of their own."""

import importlib.util
import os
import shutil
import signal
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[1]
# Before the package is imported, which notes where its data set will be.
CACHES = ("RESNEST_D2_CACHE", "FVCORE_CACHE")  # the second is detectron2's
for name in CACHES:
    os.environ[name] = tempfile.mkdtemp(prefix="resnest_d2_tests_")
os.environ.pop("RESNEST_D2_WEIGHTS", None)
# A shell's "&" leaves Ctrl-C ignored, here and in the processes that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_unconfigure():
    for name in CACHES:  # gigabytes of weights
        shutil.rmtree(os.environ[name], ignore_errors=True)


@pytest.fixture(scope="session")
def realdata() -> Path:
    """The folder of the data sets of real images, which are not part of the repository."""
    default = ROOT.parent / "shared" / "realdata"
    path = Path(os.environ.get("RESNEST_D2_REALDATA", default))
    if not path.is_dir():
        pytest.skip(f"{path} does not exist; set RESNEST_D2_REALDATA to the folder")
    return path


class Oracles:
    """Outputs of a reference system, and the weights and image they were computed from.

    Read from ``data/oracles``; a file in the folder that RESNEST_D2_ORACLES names comes first.
    """

    FOLDER = Path(__file__).parent / "data" / "oracles"

    def __init__(self):
        self._common = self._module("common")
        self._sample = self._module("sample")

    def _module(self, name: str):
        spec = importlib.util.spec_from_file_location(name, self.FOLDER / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def load(self, name: str) -> dict[str, np.ndarray]:
        further = os.environ.get("RESNEST_D2_ORACLES")
        folders = [Path(further), self.FOLDER] if further else [self.FOLDER]
        paths = [folder / f"{name}.npz" for folder in folders]
        return dict(np.load(next((path for path in paths if path.is_file()), paths[-1])))

    def weights(self, oracle: dict, seed: int) -> dict[str, torch.Tensor]:
        shapes = (str(s).strip("[]").split(",") for s in oracle["shapes"])
        shapes = [tuple(int(v) for v in shape if v.strip()) for shape in shapes]
        return {
            str(k): torch.from_numpy(np.asarray(self._common.tensor_for(str(k), s, seed)))
            for k, s in zip(oracle["keys"], shapes, strict=True)
        }

    def image(self, oracle: dict) -> np.ndarray:
        return self._common.image(*(int(v) for v in oracle["picture"]))

    def assert_map(
        self, oracle: dict, name: str, ours: torch.Tensor, *, seed: int, number: int = 2048
    ) -> None:
        """The sampled entries of a map agree to 1e-5 of the largest."""
        values, shape = self._sample.sample(ours, number, seed=seed)
        assert tuple(shape) == tuple(oracle.get(f"{name}_shape", shape))
        assert values.shape == oracle[name].shape
        error = np.abs(values - oracle[name]).max() / np.abs(oracle[name]).max()
        assert error < 1e-5, f"{name}: relative error {error:.2e}"


@pytest.fixture(scope="session")
def oracles() -> Oracles:
    return Oracles()


@pytest.fixture
def coco_files(tmp_path):
    """A function that writes a data set of two images, its JSON changed as the test wants."""
    import json

    import cv2

    def write(change=lambda data: None, name="train"):
        data = {
            "images": [
                {"id": i, "file_name": f"{i}.png", "height": 40, "width": 60} for i in (1, 2)
            ],
            "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}],
            "annotations": [
                {
                    "id": i,
                    "image_id": i,
                    "category_id": 7,
                    "bbox": [10, 5, 20, 30],
                    "segmentation": [[10, 5, 30, 5, 30, 35, 10, 35]],
                }
                for i in (1, 2)
            ],
        }
        change(data)
        images = tmp_path / "images"
        images.mkdir(exist_ok=True)
        for i in (1, 2):
            cv2.imwrite(str(images / f"{i}.png"), np.full((40, 60, 3), 50 * i, np.uint8))
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(data))
        return str(path), str(images)

    return write


@pytest.fixture
def cfg():
    """A small ResNeSt without FPN, as a config."""
    from resnest_d2 import get_cfg

    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.BACKBONE.NAME = "build_resnest_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.RESNETS.DEPTH = 14
    cfg.MODEL.RESNETS.NORM = "BN"
    cfg.MODEL.RESNETS.STRIDE_IN_1X1 = False
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    return cfg


@pytest.fixture
def rcnn_cfg(cfg):
    """A narrow Mask R-CNN on ResNeSt-14-FPN with three classes, as a config."""
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    cfg.MODEL.BACKBONE.NAME = "build_resnest_fpn_backbone"
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS, cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 64, 16
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 16
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[8], [16], [32], [64], [128]]
    cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 64
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 3
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 32
    cfg.MODEL.ROI_BOX_HEAD.NAME = "CheckpointConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC, cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 1, 32
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 7
    cfg.MODEL.ROI_MASK_HEAD.NAME = "MaskRCNNConvUpsampleHead"
    cfg.MODEL.ROI_MASK_HEAD.NUM_CONV, cfg.MODEL.ROI_MASK_HEAD.CONV_DIM = 1, 16
    cfg.MODEL.ROI_MASK_HEAD.NORM = "BN"
    cfg.MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION = 14
    cfg.MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS = [16]
    cfg.MODEL.ROI_KEYPOINT_HEAD.POOLER_RESOLUTION = 14
    cfg.MODEL.MASK_ON = True
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 64, 128
    return cfg


@pytest.fixture
def server():
    """A web server on this machine; see web.py."""
    from web import Server

    with Server() as running:
        yield running
        running.shutdown()


@pytest.fixture
def weights_cache(tmp_path, monkeypatch):
    """An empty cache of detectron2, and no folder of weights."""
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RESNEST_D2_WEIGHTS", raising=False)
    return tmp_path / "cache"
