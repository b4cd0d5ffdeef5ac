import copy

import pytest
import torch
from detectron2.modeling import build_model
from torch import nn

from resnest_d2.deploy.cpu.upsampling import Upsampling, replace_upsampling

LAYOUT = pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])


def layers(dtype=torch.float32):
    torch.manual_seed(0)
    plain = nn.Sequential(nn.ConvTranspose2d(6, 4, kernel_size=2, stride=2)).to(dtype)
    return plain, replace_upsampling(copy.deepcopy(plain))


@LAYOUT
@pytest.mark.parametrize(("amp", "rounding"), [(False, 1e-5), (True, 0.02)])
def test_values_and_gradients_are_torchs(layout, amp, rounding):
    plain, ours = layers()
    assert type(ours[0]) is Upsampling
    x = torch.randn(3, 6, 5, 4).contiguous(memory_format=layout)
    grad = torch.randn(3, 4, 10, 8)
    found = []
    for model in (plain, ours):
        own = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            y = model(own)
        assert y.dtype == (torch.bfloat16 if amp else torch.float32)
        y.backward(grad.to(y.dtype))
        found.append([y.detach(), own.grad, *(p.grad for p in model.parameters())])
    for expected, value in zip(*found, strict=True):
        near = rounding * expected.abs().max().item()
        torch.testing.assert_close(value, expected, rtol=0, atol=near)
    with torch.no_grad():
        assert torch.equal(ours(x), plain(x))


def test_gradients_of_both_orders_are_numerically_right():
    _, ours = layers(torch.float64)
    x = torch.randn(2, 6, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(ours, x)
    assert torch.autograd.gradgradcheck(ours, x)


def test_no_region_has_gradients_of_zero():
    _, ours = layers()
    ours(torch.zeros(0, 6, 5, 4, requires_grad=True)).sum().backward()
    assert not ours[0].weight.grad.any() and not ours[0].bias.grad.any()


def test_a_mask_head_keeps_its_parameters(rcnn_cfg):
    model = build_model(rcnn_cfg)
    before = dict(model.named_parameters())
    model = replace_upsampling(model)
    assert type(model.roi_heads.mask_head.deconv) is Upsampling
    after = dict(model.named_parameters())
    assert before.keys() == after.keys() and all(before[k] is after[k] for k in before)


@pytest.mark.parametrize(
    "layer",
    [
        nn.ConvTranspose2d(4, 4, 4, stride=2, padding=1),
        nn.ConvTranspose2d(4, 4, 2, stride=2, groups=2),
        nn.ConvTranspose2d(4, 4, 2, stride=2, bias=False),
        nn.ConvTranspose2d(4, 4, 2, stride=1),
    ],
)
def test_other_layers_stay(layer):
    assert replace_upsampling(nn.Sequential(layer))[0] is layer
