"""Detectors and backbones in 16 bits on the CPU: close to float32, or refused."""

import pytest
import torch
from detectors import BACKBONES, images, randomise, require_backend
from detectron2.modeling import build_model
from detectron2.structures import pairwise_iou

from resnest_d2.compat.pytorch import has_onednn
from resnest_d2.deploy import optimize_for_inference, precision
from resnest_d2.deploy.cpu import abilities as cpu
from resnest_d2.deploy.cpu.upsampling import Upsampling
from resnest_d2.deploy.precision import HALVES, check_precision
from resnest_d2.engine import Trainer
from resnest_d2.modeling import ResNeSt

SEED = 11  # of weights with which detectors of every kind find objects far from their thresholds


@pytest.fixture
def able(monkeypatch, request):
    """The processor has all instructions, though torch may emulate them, but not in float16."""
    half = getattr(request.node, "callspec", None)
    if half and half.params.get("half") == "fp16" and not has_onednn(torch.float16):
        pytest.skip("torch does not compute in float16 on this processor")
    monkeypatch.setattr(precision, "abilities", lambda: ("BF16", "FP16"))


@pytest.mark.parametrize("options", BACKBONES, ids=str)
@pytest.mark.parametrize(("half", "error"), [("bf16", 0.03), ("fp16", 0.004)])
@torch.no_grad()
def test_backbones_are_close(half, error, options, able):
    net = randomise(ResNeSt(26, res2_channels=64, width=32, **options))
    x = torch.randn(2, 3, 64, 96)
    fast = optimize_for_inference(net, precision=half)(x)
    for name, values in net(x).items():
        assert fast[name].dtype == HALVES[half] or options.get("norm") == "GN"
        wrong = (fast[name].float() - values).abs().mean() / values.abs().mean()
        assert 1e-6 < wrong < error, f"{name}: {wrong}"


def found_again(ours, theirs):
    """The share of their detections that have one of ours beside them, of the class and score."""
    near = pairwise_iou(theirs.pred_boxes, ours.pred_boxes) > 0.7
    near &= theirs.pred_classes[:, None] == ours.pred_classes
    near &= (theirs.scores[:, None] - ours.scores).abs() < 0.1
    return near.any(1).float().mean()


@pytest.mark.parametrize(
    ("backend", "half", "share"),  # the shares are low because the weights are random
    [
        ("eager", "bf16", 0.5),
        ("eager", "fp16", 0.8),
        ("inductor", "bf16", 0.5),
        ("inductor", "fp16", 0.8),
        ("openvino", "bf16", 0.5),
    ],
)
@torch.no_grad()
def test_detectors_are_close(backend, half, share, detector, able):
    require_backend(backend)
    expected = detector(images())
    fast = optimize_for_inference(detector, backend=backend, precision=half)
    found = fast(images())
    for ours, theirs in zip(found, expected, strict=True):
        ours, theirs = ours["instances"], theirs["instances"]
        assert ours.get_fields().keys() == theirs.get_fields().keys()
        assert ours.pred_boxes.tensor.dtype == ours.scores.dtype == torch.float32
        assert len(theirs) > 5 and found_again(ours, theirs) > share
    if detector.roi_heads.mask_on:
        assert found[0]["instances"].pred_masks.dtype == torch.bool


@torch.no_grad()
def test_detectors_of_a_trainer_are_lowered(rcnn_cfg, able):
    rcnn_cfg.MODEL.DEVICE = "cpu"
    model = randomise(Trainer.build_model(rcnn_cfg))
    assert isinstance(model.roi_heads.mask_head.deconv, Upsampling)
    fast = optimize_for_inference(model, precision="bf16")
    assert fast.roi_heads.mask_head.deconv.weight.dtype == torch.bfloat16
    assert fast(images())[0]["instances"].has("pred_masks")


@pytest.mark.parametrize("deep", [True, False])
@torch.no_grad()
def test_the_first_convolution_tells_neighbouring_grey_levels_apart(deep, able):
    net = randomise(ResNeSt(14, res2_channels=64, width=16, deep_stem=deep))
    fast = optimize_for_inference(net, precision="bf16")
    name = "stem.conv1_1" if deep else "stem.conv1"
    grey = ((torch.arange(256.0) - 120) / 58).expand(3, 256, 256)[None]
    exact, found = (model.get_submodule(name)(grey).relu() for model in (net, fast))
    torch.testing.assert_close(found, exact)


@torch.no_grad()
def test_what_keeps_32_bits(rcnn_cfg, able):
    fast = optimize_for_inference(randomise(build_model(rcnn_cfg)), precision="bf16")
    exact = {
        name.split(".")[-2]
        for name, tensor in fast.named_parameters()
        if tensor.dtype == torch.float32
    }
    assert exact == {
        *("objectness_logits", "anchor_deltas", "cls_score", "bbox_pred", "predictor"),
        *("conv1_1", "fc1", "fc2"),  # of the stem; of the attention, not the box head's
    }
    assert fast.roi_heads.box_head.fc1.weight.dtype == torch.bfloat16
    assert fast.backbone.bottom_up.res2[0].conv2.fc1.weight.dtype == torch.float32


def test_openvino_has_its_own_bfloat16(rcnn_cfg, able):
    require_backend("openvino")
    fast = optimize_for_inference(
        build_model(rcnn_cfg).eval(), backend="openvino", precision="bf16"
    )
    assert fast.backbone.fpn_lateral2.weight.dtype == torch.bfloat16
    assert fast.backbone.bottom_up.res2[0].conv1.weight.dtype == torch.float32


@pytest.mark.parametrize("half", ["bf16", "fp16"])
def test_emulation_is_refused(half, monkeypatch):
    monkeypatch.setattr(precision, "abilities", lambda: ("AVX2", "AVX-512", "VNNI"))
    with pytest.raises(
        ValueError, match=f"{half} would be slower than fp32 here: .*has no AVX512-"
    ):
        optimize_for_inference(ResNeSt(14).eval(), precision=half)
    assert check_precision(half, device="cuda") == half


def test_unknown_precisions_are_refused():
    with pytest.raises(ValueError, match="no precision 'half'; choose from .*'bf16'"):
        optimize_for_inference(ResNeSt(14).eval(), precision="half")
    assert check_precision("auto", device="cpu") == "fp32"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_bf16", ("AVX2", "AVX-512", "BF16")),
        ("flags\t\t: avx2 avx512f avx512_vnni amx_tile amx_bf16", None),
        ("Features\t: fp asimd asimdhp bf16", ("BF16", "FP16")),
        ("model name : x", ()),
    ],
)
def test_abilities_are_read_from_linux(line, expected, tmp_path, monkeypatch):
    file = tmp_path / "cpuinfo"
    file.write_text(f"processor : 0\n{line}\nbugs : avx\n\n{line} fma\n")
    monkeypatch.setattr(cpu, "_CPUINFO", file)
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
    found = cpu.abilities.__wrapped__()
    assert found == (("AVX2", "AVX-512", "VNNI", "BF16", "AMX") if expected is None else expected)


def test_abilities_without_a_list(tmp_path, monkeypatch):
    monkeypatch.setattr(cpu, "_CPUINFO", tmp_path / "none")
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert cpu.abilities.__wrapped__() == ()
