"""What the reference systems compute, from checkpoints in their layouts, with stock detectron2."""

import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_backbone
from detectron2.structures import Boxes, Instances
from same import assert_same_detections
from torch import nn

from resnest_d2 import get_cfg
from resnest_d2.deploy import optimize_for_inference
from resnest_d2.model_zoo import find_model, get_config

MMDET = ["faster_rcnn_s50", "mask_rcnn_s50", "cascade_rcnn_s50", "cascade_mask_rcnn_s50"]
AUTHORS = [
    "faster_rcnn_ResNeSt_50_FPN_syncbn_range-scale_1x",
    "faster_rcnn_ResNeSt_50_FPN_dcn_syncbn_range-scale_1x",
    "faster_cascade_rcnn_ResNeSt_50_FPN_syncbn_range-scale-1x",
    "mask_cascade_rcnn_ResNeSt_50_FPN_syncBN_1x",
]
TIMM = ["resnest14d", "resnest26d", "resnest50d", "resnest50d_4s2x40d", "resnest50d_1s4x24d"]
STAGES, PYRAMID = ["res2", "res3", "res4", "res5"], ["p2", "p3", "p4", "p5", "p6"]


def predictor_of(name, oracle, weights, config=None):
    """detectron2's own predictor for a published detector, at the fixture's size."""
    cfg = get_config(config or name)
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "cpu", weights
    cfg.INPUT.MIN_SIZE_TEST = int(min(oracle["picture"][:2]))
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = float(oracle["score_thr"])
    return DefaultPredictor(cfg)


def predict(predictor, image):
    """Detections, and the maps on the way: res2 .. p6, and the RPN's as rpn_cls0, rpn_reg0, .."""
    seen = {}
    model = predictor.model
    for module in (model.backbone.bottom_up, model.backbone):
        module.register_forward_hook(lambda m, x, maps: seen.update(maps))

    def note_rpn(module, x, outputs):
        for kind, levels in zip(("rpn_cls", "rpn_reg"), outputs, strict=True):
            seen.update({f"{kind}{level}": y for level, y in enumerate(levels)})

    model.proposal_generator.rpn_head.register_forward_hook(note_rpn)
    return predictor(image[:, :, ::-1])["instances"], seen


def in_stages(module):
    return module if isinstance(module, nn.ModuleList) else [module]


def assert_close(values, expected, what):
    error = np.abs(values - expected).max() / np.abs(expected).max()
    assert error < 1e-5, f"{what}: relative error {error:.2e}"


@pytest.mark.parametrize("name", MMDET)
def test_mmdetection(name, oracles, tmp_path):
    oracle = oracles.load(f"mmdet/{name}")
    path = tmp_path / "published.pth"
    meta = {"epoch": 12, "mmdet_version": "2.4.0", "CLASSES": ("person", "car")}
    torch.save({"meta": meta, "state_dict": oracles.weights(oracle, seed=0)}, path)
    predictor = predictor_of(name, oracle, f"resnest+file://{path}")
    found, maps = predict(predictor, oracles.image(oracle))
    for group in (STAGES, PYRAMID):
        for seed, stage in enumerate(group):
            oracles.assert_map(oracle, stage, maps[stage], seed=seed)
    for level in range(5):
        for kind in (f"rpn_cls{level}", f"rpn_reg{level}"):
            oracles.assert_map(oracle, kind, maps[kind], seed=level)

    heads = predictor.model.roi_heads
    features = [maps[p] for p in PYRAMID[:4]]
    boxes = [Boxes(torch.from_numpy(oracle["fixed_boxes"]))]
    with torch.no_grad():
        pooled = heads.box_pooler(features, boxes)
        stages = zip(in_stages(heads.box_head), in_stages(heads.box_predictor), strict=True)
        for stage, (head, predict_boxes) in enumerate(stages):
            for kind, values in zip(("cls", "reg"), predict_boxes(head(pooled)), strict=True):
                assert_close(values.numpy(), oracle[f"box_{kind}{stage}"], f"box_{kind}{stage}")
        if heads.mask_on:
            pooled = heads.mask_pooler(features, boxes)
            for stage, head in enumerate(in_stages(heads.mask_head)):
                oracles.assert_map(
                    oracle, f"mask_logits{stage}", head.layers(pooled), seed=stage, number=4096
                )
    assert_same_detections(found, detections(oracle), score_tolerance=1e-5)
    assert_optimised(predictor, oracle, oracles, PYRAMID.index)


@pytest.mark.parametrize(
    ("name", "prefix"), [*((name, "") for name in AUTHORS), (AUTHORS[0], "resnest+file://")]
)
def test_authors(name, prefix, oracles, tmp_path):
    oracle = oracles.load(f"authors/{name}")
    path = tmp_path / "published.pth"
    torch.save({"model": oracles.weights(oracle, seed=1)}, path)
    predictor = predictor_of(name, oracle, f"{prefix}{path}")
    found, maps = predict(predictor, oracles.image(oracle))
    for stage in STAGES + PYRAMID:
        oracles.assert_map(oracle, stage, maps[stage], seed=int(oracle[f"{stage}_seed"]))
    assert_same_detections(found, detections(oracle), score_tolerance=1e-5)
    if not prefix:
        assert_optimised(predictor, oracle, oracles, lambda level: int(oracle[f"{level}_seed"]))


@pytest.mark.parametrize("name", TIMM)
def test_timm(name, oracles, tmp_path):
    oracle = oracles.load(f"timm/{name}")
    path = tmp_path / "published.pth"
    torch.save(oracles.weights(oracle, seed=2), path)
    cfg = get_cfg()
    cfg.MODEL.DEVICE, cfg.MODEL.BACKBONE.NAME = "cpu", "build_resnest_backbone"
    cfg.MODEL.RESNETS.merge_from_other_cfg(
        type(cfg)({**find_model(f"timm/{name}").config, "NORM": "BN", "STRIDE_IN_1X1": False})
    )
    cfg.MODEL.RESNETS.OUT_FEATURES = STAGES
    net = build_backbone(cfg).eval()
    DetectionCheckpointer(net).load(f"resnest+file://{path}")
    keys = get_config("faster_rcnn_s50").MODEL
    image = (oracles.image(oracle) - np.array(keys.PIXEL_MEAN)) / np.array(keys.PIXEL_STD)
    with torch.no_grad():
        outputs = net(torch.from_numpy(image).permute(2, 0, 1)[None].float())
    for seed, stage in enumerate(STAGES, 1):
        oracles.assert_map(oracle, stage, outputs[stage], seed=seed)


def detections(oracle):
    """The fixture's detections as detectron2 has them."""
    size = tuple(int(side) for side in oracle["picture"][:2])
    expected = Instances(size)
    expected.pred_boxes = Boxes(torch.from_numpy(oracle["det_boxes"]))
    expected.scores = torch.from_numpy(oracle["det_scores"])
    expected.pred_classes = torch.from_numpy(oracle["det_labels"])
    if "det_masks" in oracle:
        masks = np.unpackbits(oracle["det_masks"], axis=1)[:, : size[0] * size[1]]
        expected.pred_masks = torch.from_numpy(masks.reshape(-1, *size)).bool()
    assert len(expected) > 0
    return expected


def assert_optimised(predictor, oracle, oracles, seed_of):
    """The pyramid and the detections once more, after optimize_for_inference."""
    predictor.model = optimize_for_inference(predictor.model)
    found, maps = predict(predictor, oracles.image(oracle))
    for level in PYRAMID:
        oracles.assert_map(oracle, level, maps[level], seed=seed_of(level))
    assert_same_detections(found, detections(oracle), score_tolerance=1e-4)
