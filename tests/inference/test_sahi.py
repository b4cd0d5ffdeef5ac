"""sahi's Detectron2 adapter reads a run's folder by itself, with no code of this package."""

import json

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model

from resnest_d2 import Predictor, load_config

pytest.importorskip("sahi", reason="pip install --no-deps sahi, pip install shapely")

CONFIG = "quick_schedules/faster_rcnn_ResNeSt_14_FPN_quick.yaml"
SMALL = ["MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.RESNETS.WIDTH_PER_GROUP", 16]
SMALL += ["MODEL.FPN.OUT_CHANNELS", 32, "INPUT.MIN_SIZE_TEST", 64, "INPUT.MAX_SIZE_TEST", 200]
SMALL += ["MODEL.RPN.POST_NMS_TOPK_TEST", 64, "TEST.DETECTIONS_PER_IMAGE", 20]
SMALL += ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0, "MODEL.ROI_HEADS.NUM_CLASSES", 3]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """OUTPUT_DIR of a run whose data is gone, its weights random."""
    folder = tmp_path_factory.mktemp("run")
    cfg = load_config(CONFIG, ["MODEL.DEVICE", "cpu", *SMALL])
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ("gone",)
    cfg.DATASETS.CLASSES, cfg.DATASETS.CATEGORY_IDS = ["ant", "bee", "cow"], [3, 5, 9]
    torch.manual_seed(0)
    model = build_model(cfg)
    with torch.no_grad():
        for parameter in model.roi_heads.box_predictor.parameters():
            parameter.normal_(std=0.05)
    torch.save({"model": model.state_dict()}, folder / "model_best.pth")
    (folder / "config.yaml").write_text(cfg.dump())
    return folder


def test_predicts_with_a_runs_folder_as_our_predictor_does(run):
    from sahi import AutoDetectionModel
    from sahi.predict import get_prediction

    predictor = Predictor(run, backend="plain", device="cpu", score_threshold=0.0)
    names = predictor.cfg.DATASETS.CLASSES  # of config.yaml, as docs/predict.md has it
    model = AutoDetectionModel.from_pretrained(
        model_type="detectron2",
        model_path=str(run / "model_best.pth"),
        config_path=str(run / "config.yaml"),
        confidence_threshold=0.0,
        category_mapping={str(i): name for i, name in enumerate(names)},
        device="cpu",
    )
    bgr = np.random.default_rng(0).integers(0, 256, (96, 128, 3)).astype(np.uint8)
    theirs = get_prediction(bgr, model).object_prediction_list
    ours = predictor(bgr, channels="BGR").instances
    assert len(theirs) == len(ours) > 5
    theirs = sorted(theirs, key=lambda found: -found.score.value)
    scores = torch.tensor([found.score.value for found in theirs])
    torch.testing.assert_close(scores, ours.scores, atol=1e-4, rtol=0)
    boxes = torch.tensor([found.bbox.to_xyxy() for found in theirs], dtype=torch.float32)
    torch.testing.assert_close(boxes, ours.pred_boxes.tensor, atol=1.0, rtol=0)
    assert [found.category.name for found in theirs] == [names[i] for i in ours.pred_classes]
    turned = get_prediction(np.ascontiguousarray(bgr[:, :, ::-1]), model).object_prediction_list
    assert json.dumps([o.score.value for o in turned]) != json.dumps(scores.tolist())
