"""The folder of an untrained run that finds something anywhere, and files to open."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from small import FASTER, KEYS

from resnest_d2.config import load_config
from resnest_d2.engine import Trainer
from resnest_d2.inference.video import VideoWriter


@pytest.fixture(scope="session")
def strange():
    """The name of a class of the run, as nobody would wish it."""
    return "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="session")
def run(tmp_path_factory, strange):
    """The folder of a run, whose recommended threshold is 0.35; its scores are 0.3 to 0.5."""
    folder = tmp_path_factory.mktemp("app") / "run"
    folder.mkdir()
    cfg = load_config(FASTER, [*KEYS, "MODEL.DEVICE", "cpu", "DATASETS.TRAIN", "()"])
    cfg.DATASETS.TEST, cfg.DATASETS.CLASSES = (), ["cat", strange, "dog"]
    cfg.DATASETS.CATEGORY_IDS, cfg.MODEL.ROI_HEADS.NUM_CLASSES = [1, 5, 7], 3
    torch.manual_seed(0)
    model = Trainer.build_model(cfg)
    predictor = model.roi_heads.box_predictor
    with torch.no_grad():  # scores that differ
        predictor.cls_score.weight *= 200
        predictor.cls_score.bias += torch.tensor([0.0, 1.0, 0.0, 1.0])
    (folder / "config.yaml").write_text(cfg.dump())
    torch.save({"model": model.state_dict()}, folder / "model_final.pth")
    told = {"thresholds": {"val": 0.35}, "weights": "model_final.pth"}
    (folder / "threshold.json").write_text(json.dumps(told))
    return folder


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """A folder with an image, two broken ones and a video of three frames."""
    folder = tmp_path_factory.mktemp("files")
    frames = [np.random.RandomState(i).randint(0, 255, (48, 64, 3), np.uint8) for i in range(3)]
    Image.fromarray(frames[0]).save(folder / "noise.png")
    (folder / "broken.png").write_bytes((folder / "noise.png").read_bytes()[:200])
    (folder / "<b>notes.txt").write_text("no image")
    video = VideoWriter(folder / "three.mp4", 5)
    for frame in frames:
        video.add(Image.fromarray(frame))
    video.close()
    return folder
