"""Every kind of detector finds on the GPU what it finds on the CPU, in its optimized forms too."""

import copy
import subprocess
import sys

import pytest
import torch
from detectors import KINDS, images, randomise, set_kind
from detectron2.modeling import build_model
from detectron2.structures import pairwise_iou
from same import assert_same_detections

from resnest_d2.deploy import optimize_for_inference
from resnest_d2.modeling import ResNeSt

every_kind = pytest.mark.parametrize("kind", KINDS)


def built(cfg, kind="mask"):
    return randomise(build_model(set_kind(cfg, kind)))


def detect(model):
    with torch.no_grad():
        return [output["instances"].to("cpu") for output in model(images())]


def assert_same(found, expected):
    assert sum(map(len, expected)) > 10
    for ours, theirs in zip(found, expected, strict=True):
        assert_same_detections(ours, theirs, score_tolerance=1e-3)


@every_kind
def test_plain_and_optimized(kind, rcnn_cfg, gpu):
    model = built(rcnn_cfg, kind)
    expected = detect(model)
    on_gpu = copy.deepcopy(model).to(gpu)
    assert_same(detect(on_gpu), expected)
    assert_same(detect(on_gpu.to(memory_format=torch.channels_last)), expected)
    assert_same(detect(optimize_for_inference(on_gpu)), expected)


@pytest.mark.parametrize("modulated", [False, True])
def test_deformable(modulated, rcnn_cfg, gpu):
    rcnn_cfg.MODEL.RESNETS.DEFORM_ON_PER_STAGE = [False, True, True, True]
    rcnn_cfg.MODEL.RESNETS.DEFORM_MODULATED = modulated
    model = built(rcnn_cfg)
    for name, parameter in model.named_parameters():
        if "conv2_offset" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    expected = detect(model)
    on_gpu = model.to(gpu)
    assert_same(detect(on_gpu), expected)
    assert_same(detect(optimize_for_inference(on_gpu)), expected)


def test_inductor(rcnn_cfg, gpu):
    model = built(rcnn_cfg)
    expected = detect(model)
    assert_same(detect(optimize_for_inference(model.to(gpu), backend="inductor")), expected)


@torch.no_grad()
@pytest.mark.parametrize("backend", ["eager", "inductor"])
def test_backbone_in_float16(backend, gpu):
    net = randomise(ResNeSt(26, res2_channels=64, width=32))
    x = torch.randn(2, 3, 64, 96)
    fast = optimize_for_inference(copy.deepcopy(net).to(gpu), backend=backend, precision="fp16")
    found = fast(x.to(gpu))
    for name, values in net(x).items():
        assert found[name].dtype == torch.float16
        error = (found[name].cpu().float() - values).norm() / values.norm()
        assert error < 0.01, f"{name}: {error}"


@every_kind
def test_detector_in_float16(kind, rcnn_cfg, gpu):
    model = built(rcnn_cfg, kind)
    expected = detect(model)
    found = detect(optimize_for_inference(model.to(gpu), precision="fp16"))
    same = [paired(ours, theirs) for ours, theirs in zip(found, expected, strict=True)]
    assert torch.cat(same).float().mean() > 0.9


def paired(found, expected):
    """Which expected detections have one of the same class, IoU over 0.9 and score within 0.02."""
    same = pairwise_iou(expected.pred_boxes, found.pred_boxes) > 0.9
    same &= expected.pred_classes[:, None] == found.pred_classes[None]
    return (same & ((expected.scores[:, None] - found.scores[None]).abs() < 0.02)).any(1)


def test_no_detection_and_no_proposal(rcnn_cfg, gpu):
    model = built(rcnn_cfg).to(gpu)
    model.roi_heads.box_predictor.test_score_thresh = 1.0
    fast = optimize_for_inference(model)
    assert [len(found) for found in detect(fast)] == [0, 0]
    fast.proposal_generator.post_nms_topk[False] = 0
    assert [len(found) for found in detect(fast)] == [0, 0]


WITHOUT_EXTENSION = """
import sys
sys.modules["detectron2._C"] = None  # importing it now raises ImportError
import torch
from detectron2.modeling import build_model
from resnest_d2 import load_config
config = "quick_schedules/mask_rcnn_ResNeSt_14_FPN_quick.yaml"
model = build_model(load_config(config, ["MODEL.DEVICE", sys.argv[1]])).eval()
with torch.no_grad():
    print(type(model([{"image": torch.rand(3, 64, 96) * 255}])[0]["instances"]).__name__)
"""


def test_detectron2s_compiled_extension_is_not_needed(gpu):
    command = [sys.executable, "-c", WITHOUT_EXTENSION, gpu]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.stdout.strip() == "Instances", run.stderr
