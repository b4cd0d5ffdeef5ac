"""cuDNN's fused convolution is used by optimized models, and gives what the plain one gives."""

import pytest
import torch
from detectron2.layers import Conv2d

from resnest_d2.compat import cudnn
from resnest_d2.deploy import gpu as fused
from resnest_d2.deploy import optimize_for_inference


def convolution(**options):
    torch.manual_seed(0)
    norm = torch.nn.BatchNorm2d(32)
    torch.nn.init.uniform_(norm.running_var, 0.6, 1.4)
    torch.nn.init.normal_(norm.bias)
    relu = torch.nn.functional.relu
    return Conv2d(16, 32, 3, bias=False, norm=norm, activation=relu, **options).eval()


@torch.no_grad()
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("sum_", [False, True])
@pytest.mark.parametrize(
    "options",
    [{"padding": 1}, {"padding": 1, "groups": 2}, {"padding": 2, "dilation": 2}, {"stride": 2}],
    ids=str,
)
def test_values(options, sum_, half, gpu, monkeypatch):
    layer, x = convolution(**options), torch.randn(2, 16, 19, 13)
    residual = torch.randn_like(layer(x)) if sum_ else None
    expected = layer.norm(torch.nn.functional.conv2d(x, layer.weight, None, *settings(layer)))
    expected = (expected + residual if sum_ else expected).relu()
    calls = []
    convolve = cudnn.cudnn_convolve
    monkeypatch.setattr(
        fused, "cudnn_convolve", lambda *a, **k: calls.append(convolve(*a, **k)) or calls[-1]
    )
    fast = optimize_for_inference(layer.to(gpu))
    inputs = [None if t is None else t.to(gpu) for t in (x, residual)]
    with torch.autocast(gpu, torch.float16, enabled=half):
        found = fast(*inputs)
    assert calls[0] is found and cudnn.has_cudnn_fusion()
    assert found.dtype == (torch.float16 if half else torch.float32)
    limit = 5e-3 if half else 1e-5
    torch.testing.assert_close(found.cpu().float(), expected, rtol=limit, atol=limit)
    assert fast.weight.dtype == torch.float32


def settings(layer):
    return layer.stride, layer.padding, layer.dilation, layer.groups


@torch.no_grad()
def test_without_a_fused_kernel(gpu, monkeypatch):
    layer, x = convolution(padding=1).to(gpu), torch.randn(2, 16, 9, 9, device=gpu)
    expected = layer(x)
    monkeypatch.setattr(fused, "cudnn_convolve", lambda *_, **__: None)
    torch.testing.assert_close(optimize_for_inference(layer)(x), expected, rtol=1e-4, atol=1e-4)
