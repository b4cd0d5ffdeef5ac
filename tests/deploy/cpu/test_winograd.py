import pytest
import torch
import torch.nn.functional as F
from torch import nn

from resnest_d2.deploy.cpu import winograd
from resnest_d2.deploy.layers import FusedConv2d

# Where it is not used, some processors' matrix products sum in another order: 2.9e-6 was measured.
LARGEST = 3e-6 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 2.5e-6


def convolution(c, o, *, groups=1, bias=True):
    """Weights that keep the variance, in float64."""
    torch.manual_seed(0)
    weight = torch.randn(groups * o, c, 3, 3).double() / (3 * c**0.5)
    return weight, torch.randn(groups * o).double() if bias else None


@pytest.fixture(autouse=True)
def avx2(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")


@pytest.mark.parametrize("size", [(8, 8), (7, 7), (13, 6), (1, 5)])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("relu", [False, True])
def test_equals_a_plain_convolution(size, groups, relu):
    weight, bias = convolution(8, 5, groups=groups)
    x = torch.randn(3, 8 * groups, *size).double().contiguous(memory_format=torch.channels_last)
    expected = F.conv2d(x, weight, bias, padding=1, groups=groups)
    kernels = winograd.transform_kernels(weight, groups)
    found = winograd.convolve(x, kernels, bias, relu=relu)
    torch.testing.assert_close(found, expected.relu() if relu else expected)


@pytest.mark.parametrize("tiles", [1, 2, 5, 12, 100])  # 3 x 4 an image
def test_equals_it_in_pieces_too(tiles, monkeypatch):
    weight, _ = convolution(4, 4, bias=False)
    monkeypatch.setattr(winograd, "_PIECE", tiles * 4)
    x = torch.randn(5, 4, 12, 15).double()
    found = winograd.convolve(x, winograd.transform_kernels(weight, 1), None, relu=False)
    torch.testing.assert_close(found, F.conv2d(x, weight, padding=1))


def test_rounding_errors(monkeypatch):
    """Two thirds of those with the paper's points, and within a limit."""
    weight, bias = (v.float() for v in convolution(256, 64))
    x = torch.randn(1, 256, 28, 28).relu()
    exact = F.conv2d(x.double(), weight.double(), bias.double(), padding=1)

    def errors():
        winograd._matrices.cache_clear()
        return winograd.convolve(x, winograd.transform_kernels(weight, 1), bias, relu=False) - exact

    ours = errors()
    monkeypatch.setattr(winograd, "_POINTS", (0.0, 1.0, -1.0, 2.0, -2.0))
    papers = errors()
    winograd._matrices.cache_clear()
    assert ours.square().mean() < 0.75**2 * papers.square().mean()
    assert ours.abs().max() < LARGEST * exact.abs().max()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, True),
        ({"groups": 2}, False),
        ({"stride": 2}, False),
        ({"dilation": 2, "padding": 2}, False),
        ({"padding": 0}, False),
        ({"kernel_size": 1, "padding": 0}, False),
        ({"padding_mode": "reflect"}, False),
    ],
)
def test_which_convolutions_suit(options, expected):
    conv = nn.Conv2d(128, 256, **{"kernel_size": 3, "padding": 1, **options})
    assert winograd.suits(conv) == expected


def test_none_suits_avx512(monkeypatch):
    conv = nn.Conv2d(128, 256, 3, padding=1)
    assert winograd.suits(conv)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert not winograd.suits(conv)


@torch.no_grad()
def test_wide_convolutions_use_it_on_maps_that_tiles_fit(monkeypatch):
    conv = FusedConv2d(128, 128, 3, padding=1, activation=F.relu)
    expected = nn.Conv2d(128, 128, 3, padding=1)
    expected.load_state_dict(conv.state_dict())
    conv.prepare()
    if not conv.pack:
        pytest.skip("a torch without oneDNN")
    called = []
    convolve = winograd.convolve
    monkeypatch.setattr(
        winograd,
        "convolve",
        lambda x, *args, **kw: called.append(x.shape) or convolve(x, *args, **kw),
    )
    for size in ((7, 7), (2, 2), (5, 9)):
        x = torch.randn(2, 128, *size)
        torch.testing.assert_close(conv(x), expected(x).relu(), atol=1e-5, rtol=0)
    assert called == [(2, 128, 7, 7)]  # 8 x 8 outputs for 7 x 7, but 4 x 4 for 2 x 2
    x, residual = torch.randn(2, 128, 8, 8), torch.randn(2, 128, 8, 8)
    both = (expected(x) + residual).relu()
    torch.testing.assert_close(conv(x, residual.clone()), both, atol=1e-5, rtol=0)
