"""Evaluation with test-time augmentation, of every kind of detector there is."""

import json

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model

from resnest_d2 import load_config, register_datasets
from resnest_d2.engine import evaluate


@pytest.mark.parametrize(
    "name",
    [
        "COCO-Detection/faster_rcnn_ResNeSt_50_FPN_1x.yaml",
        "COCO-Detection/cascade_rcnn_ResNeSt_50_FPN_1x.yaml",
        "COCO-InstanceSegmentation/mask_rcnn_ResNeSt_50_FPN_1x.yaml",
        "COCO-InstanceSegmentation/cascade_mask_rcnn_ResNeSt_50_FPN_1x.yaml",
    ],
)
def test_both_evaluations_are_there(name, coco_files, tmp_path):
    json_file, images = coco_files()
    sets = f'[["augmented", "{json_file}", "{images}"]]'
    opts = ["DATASETS.COCO", sets, "DATASETS.TRAIN", (), "DATASETS.TEST", ("augmented",)]
    cfg = load_config(name, [*opts, "OUTPUT_DIR", str(tmp_path), "MODEL.DEVICE", "cpu"])
    register_datasets(cfg)
    try:
        cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 14, 32
        cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST, cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 0.0, 20
        cfg.INPUT.MIN_SIZE_TEST = 64
        cfg.TEST.AUG.ENABLED, cfg.TEST.AUG.MIN_SIZES = True, (64, 80)
        cfg.DATALOADER.NUM_WORKERS = 0
        cfg.MODEL.WEIGHTS = str(tmp_path / "weights.pth")
        torch.manual_seed(0)
        torch.save({"model": build_model(cfg).state_dict()}, cfg.MODEL.WEIGHTS)
        results = evaluate(cfg)
    finally:
        DatasetCatalog.remove("augmented")
        MetadataCatalog.remove("augmented")
    tasks = {"bbox", "segm"} if cfg.MODEL.MASK_ON else {"bbox"}
    assert set(results) == tasks | {f"{task}_TTA" for task in tasks}
    stored = json.loads((tmp_path / "results.json").read_text())
    assert set(stored["augmented"]) == set(results)
    found = {}
    for folder in ("inference", "inference_TTA"):
        path = tmp_path / folder / "augmented" / "coco_instances_results.json"
        found[folder] = json.loads(path.read_text())
        assert found[folder] and all(
            ("segmentation" in f) is cfg.MODEL.MASK_ON for f in found[folder]
        )
    assert found["inference"] != found["inference_TTA"]
