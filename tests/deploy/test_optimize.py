"""An optimised model gives what the plain one gave, and the plain one stays what it was."""

import copy

import pytest
import torch
from detectors import BACKBONES, images, randomise, require_backend
from detectron2.evaluation import inference_context
from detectron2.modeling import GeneralizedRCNNWithTTA, build_model
from same import assert_same_detections

from resnest_d2.deploy import BACKENDS, optimize_for_inference
from resnest_d2.deploy.cpu.roi_align import ChannelsLastPooler
from resnest_d2.deploy.layers import ChannelsLastFlatten, FusedConv2d, FusedMaskHead
from resnest_d2.modeling import ResNeSt


def assert_maps_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        error = (found[name] - values).abs().max() / values.abs().max()
        assert error < 1e-5, f"{name}: {error}"


@pytest.mark.parametrize("options", BACKBONES, ids=str)
@torch.no_grad()
def test_backbones(options):
    net = randomise(ResNeSt(26, res2_channels=64, width=32, **options))
    before = copy.deepcopy(net.state_dict())
    x = torch.randn(2, 3, 64, 96)
    expected = net(x)
    assert_maps_equal(optimize_for_inference(net)(x), expected)
    assert_maps_equal(net(x), expected)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def assert_detections_equal(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        ours, theirs = ours["instances"], theirs["instances"]
        assert ours.get_fields().keys() == theirs.get_fields().keys()
        assert_same_detections(ours, theirs)


@pytest.mark.parametrize("backend", BACKENDS)
@torch.no_grad()
def test_detectors(backend, detector):
    require_backend(backend)
    expected = detector(images())
    assert sum(len(e["instances"]) for e in expected) > 10
    fast = optimize_for_inference(detector, backend=backend)
    assert_detections_equal(fast(images()), expected)
    assert any(isinstance(m, FusedConv2d) for m in fast.modules())
    assert isinstance(fast.roi_heads.box_pooler, ChannelsLastPooler)
    assert not any(isinstance(m, FusedConv2d | FusedMaskHead) for m in detector.modules())
    assert_detections_equal(detector(images()), expected)


@pytest.mark.parametrize("name", ["FastRCNNConvFCHead", "CheckpointConvFCHead"])
def test_box_heads_flatten_without_a_copy(name, rcnn_cfg):
    rcnn_cfg.MODEL.ROI_BOX_HEAD.NAME = name
    rcnn_cfg.MODEL.ROI_BOX_HEAD.NUM_CONV, rcnn_cfg.MODEL.ROI_BOX_HEAD.CONV_DIM = 1, 16
    head = build_model(rcnn_cfg).eval().roi_heads.box_head
    fast, x = optimize_for_inference(head), torch.rand(3, 16, 7, 7)
    assert type(head).__name__ == name and isinstance(fast.flatten, ChannelsLastFlatten)
    torch.testing.assert_close(fast(x), head(x))


@torch.no_grad()
def test_no_detection(detector):
    heads = detector.roi_heads.box_predictor
    for predictor in heads if isinstance(heads, torch.nn.ModuleList) else [heads]:
        predictor.test_score_thresh = 1.0
    fast = optimize_for_inference(detector)
    for found, expected in zip(fast(images()), detector(images()), strict=True):
        assert len(found["instances"]) == 0
        assert found["instances"].get_fields().keys() == expected["instances"].get_fields().keys()


@torch.no_grad()
def test_test_time_augmentation(rcnn_cfg):
    rcnn_cfg.TEST.AUG.MIN_SIZES = (48, 64)
    model = randomise(build_model(rcnn_cfg))
    plain, fast = (
        GeneralizedRCNNWithTTA(rcnn_cfg, m)(images()[:1])
        for m in (model, optimize_for_inference(model))
    )
    assert_detections_equal(fast, plain)


@torch.no_grad()
def test_openvino(rcnn_cfg, recwarn):
    require_backend("openvino")
    rcnn_cfg.MODEL.ROI_BOX_HEAD.NUM_CONV, rcnn_cfg.MODEL.ROI_BOX_HEAD.CONV_DIM = 1, 16
    model = randomise(build_model(rcnn_cfg))
    fast = optimize_for_inference(model, backend="openvino")
    for batch in (images(), images()[1:]):  # another size and number, converted once
        assert_detections_equal(fast(batch), model(batch))
    assert not [str(w.message) for w in recwarn if "resnest_d2/deploy" in w.filename]
    model.roi_heads.box_predictor.test_score_thresh = 1.0
    fast.roi_heads.box_predictor.test_score_thresh = 1.0
    assert len(fast(images())[0]["instances"]) == 0


@torch.no_grad()
def test_inductor_compiles_once_for_all_sizes():
    require_backend("inductor")
    net = randomise(ResNeSt(14, res2_channels=32, width=16))
    fast = optimize_for_inference(net, backend="inductor")
    counted = torch._dynamo.utils.counters["stats"]
    before = counted["unique_graphs"]
    for height, width in ((96, 128), (128, 96), (128, 160)):
        x = torch.randn(1, 3, height, width)
        assert_maps_equal(fast(x), net(x))
    assert counted["unique_graphs"] == before + 1


def test_it_cannot_be_trained():
    fast = optimize_for_inference(ResNeSt(14).eval())
    with pytest.raises(RuntimeError, match="optimised for inference and cannot be trained"):
        fast.train()
    with inference_context(fast):  # as detectron2's evaluation does
        assert not fast.training
    assert not any(p.requires_grad for p in fast.parameters())


def test_what_is_refused():
    net = ResNeSt(14)
    with pytest.raises(ValueError, match="in eval mode: call model.eval()"):
        optimize_for_inference(net)
    with pytest.raises(ValueError, match="no backend 'tensorrt'; choose from .*'eager'"):
        optimize_for_inference(net.eval(), backend="tensorrt")
    with pytest.raises(ValueError, match="openvino backend computes in fp32, bf16 or int8"):
        optimize_for_inference(net.eval(), backend="openvino", precision="fp16")


def test_without_openvino(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ImportError, match=r"pip install 'resnest-d2\[openvino\]'"):
        optimize_for_inference(ResNeSt(14).eval(), backend="openvino")


def test_unknown_layers_are_named(caplog):
    caplog.set_level("INFO")
    optimize_for_inference(ResNeSt(14, norm="GN").eval())
    assert "Not optimized: FusedConv2d, GroupNorm." in caplog.text
