"""Losses and gradients of a step are those of the CPU, with every way to save memory or time."""

import copy

import pytest
import torch
from detectors import KINDS, set_kind
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage

from resnest_d2.layers import weighted_sum
from resnest_d2.modeling import ResNeSt

LAYOUT = pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)


def step(model, *, dtype=None):
    """Losses of a step, and the gradients of its parameters."""
    device = model.device.type
    model.zero_grad()
    with EventStorage(), torch.autocast(device, dtype, enabled=dtype is not None):
        losses = model(batch())
    sum(losses.values()).backward()
    grads = {k: p.grad.cpu() for k, p in model.named_parameters() if p.grad is not None}
    return {name: loss.detach().cpu() for name, loss in losses.items()}, grads


def batch():
    """Two images with three objects each."""
    torch.manual_seed(1)
    inputs = []
    for height, width in ((64, 96), (80, 64)):
        truth = Instances((height, width))
        corner = torch.rand(3, 2) * torch.tensor([width, height]) / 2
        truth.gt_boxes = Boxes(torch.cat([corner, corner + 8 + 20 * torch.rand(3, 2)], 1))
        truth.gt_classes = torch.tensor([0, 1, 2])
        truth.gt_masks = BitMasks(torch.rand(3, height, width) > 0.5)
        inputs.append({"image": torch.rand(3, height, width) * 255, "instances": truth})
    return inputs


def built(cfg, kind="mask"):
    """A detector that samples all anchors and keeps all proposals.

    Random numbers differ on a GPU, and rounding decides which of two similar proposals is kept.
    """
    set_kind(cfg, kind)
    cfg.MODEL.RPN.NMS_THRESH, cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = 1.0, 4096
    cfg.MODEL.RPN.BATCH_SIZE_PER_IMAGE = cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 4096
    cfg.MODEL.RPN.POSITIVE_FRACTION = cfg.MODEL.ROI_HEADS.POSITIVE_FRACTION = 1.0
    torch.manual_seed(0)
    return build_model(cfg).train()


def assert_same_step(found, expected, *, losses=1e-4, gradients=0.05):
    """Relative errors of losses, and of gradients as vectors.

    Batch norms of few values make much of rounding errors; in float64 there are none, see below.
    """
    assert found[0].keys() == expected[0].keys() and found[1].keys() == expected[1].keys()
    for name, loss in expected[0].items():
        assert loss > 0
        torch.testing.assert_close(found[0][name], loss, rtol=losses, atol=1e-6)
    whole = torch.cat([grad.flatten() for grad in expected[1].values()]).norm()
    for name, grad in expected[1].items():
        error = (found[1][name] - grad).norm() / (grad.norm() + 1e-3 * whole)
        assert error < gradients, f"{name}: {error}"


@pytest.mark.parametrize("kind", KINDS)
def test_equal_to_the_cpu(kind, rcnn_cfg, gpu):
    model = built(rcnn_cfg, kind)
    on_gpu = copy.deepcopy(model).to(gpu)
    assert_same_step(step(on_gpu), step(model))


def test_deformable(rcnn_cfg, gpu):
    rcnn_cfg.MODEL.RESNETS.DEFORM_ON_PER_STAGE = [False, True, True, True]
    rcnn_cfg.MODEL.RESNETS.DEFORM_MODULATED = True
    model = built(rcnn_cfg)
    on_gpu = copy.deepcopy(model).to(gpu)
    assert_same_step(step(on_gpu), step(model))


def test_channels_last(rcnn_cfg, gpu):
    """With cuDNN 9.19 gradients in float32 are others in this layout; in float64 they are not."""
    model = built(rcnn_cfg).to(gpu)
    other = copy.deepcopy(model).to(memory_format=torch.channels_last)
    with torch.backends.cudnn.flags(enabled=False):
        assert_same_step(step(other), step(model))


@pytest.mark.parametrize("dtype", [None, torch.float16], ids=str)
@pytest.mark.parametrize("mode", ["light", "block"])
def test_activation_checkpoints(mode, dtype, rcnn_cfg, gpu):
    model = built(rcnn_cfg).to(gpu)
    rcnn_cfg.MODEL.RESNETS.ACTIVATION_CHECKPOINT = mode
    other = built(rcnn_cfg).to(gpu)
    other.load_state_dict(model.state_dict())
    limits = {} if dtype is None else {"losses": 1e-2, "gradients": 0.2}
    assert_same_step(step(other, dtype=dtype), step(model, dtype=dtype), **limits)


@LAYOUT
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"radix": 0},
        {"radix": 1},
        {"radix": 4, "num_groups": 2, "avd_first": True},
        {"norm": "GN", "width": 32},
        {"deform_on_per_stage": (False, True, True, True), "deform_modulated": True},
        {"activation_checkpoint": "light"},
        {"activation_checkpoint": "block"},
    ],
    ids=str,
)
def test_backbone_in_float64(options, layout, gpu):
    torch.manual_seed(0)
    net = ResNeSt(14, **{"res2_channels": 64, "width": 16, **options}).train().double()
    x = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    results = []
    for device in ("cpu", gpu):
        one = copy.deepcopy(net).to(device, memory_format=layout)
        outputs = one(x.to(device, memory_format=layout))
        sum(v.square().mean() for v in outputs.values()).backward()
        grads = {k: p.grad.cpu() for k, p in one.named_parameters() if p.grad is not None}
        results.append([{k: v.detach().cpu() for k, v in outputs.items()}, grads])
    torch.testing.assert_close(*results, rtol=1e-6, atol=1e-8)


@LAYOUT
@pytest.mark.parametrize("radix", [1, 2, 4])
def test_weighted_sum(radix, layout, gpu):
    torch.manual_seed(0)
    x = torch.randn(2, radix * 24, 19, 13)
    weights, grad = torch.randn(2, radix, 24, 1, 1), torch.randn(2, 24, 19, 13)
    weights = weights.softmax(1) if radix > 1 else weights.sigmoid()

    def results(device):
        leaves = [t.detach().to(device).requires_grad_() for t in (x, weights)]
        leaves[0].data = leaves[0].data.to(memory_format=layout)
        out = weighted_sum(*leaves)
        assert out.is_contiguous(memory_format=layout)
        grads = torch.autograd.grad(out, leaves, grad.to(device).to(memory_format=layout))
        return [t.detach().cpu() for t in (out, *grads)]

    torch.testing.assert_close(results(gpu), results("cpu"), rtol=1e-5, atol=1e-5)
