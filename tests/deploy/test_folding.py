import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d, NaiveSyncBatchNorm
from torch import nn

from resnest_d2.deploy.folding import can_fold, fold


def filled(norm):
    torch.manual_seed(1)
    for tensor in norm.state_dict().values():
        if tensor.is_floating_point():
            torch.nn.init.uniform_(tensor, 0.5, 1.5)
    return norm.eval()


@pytest.mark.parametrize(
    "norm", [nn.BatchNorm2d, nn.SyncBatchNorm, NaiveSyncBatchNorm, FrozenBatchNorm2d]
)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("conv", [nn.Conv2d, nn.ConvTranspose2d])
def test_one_layer_gives_what_two_gave(conv, bias, norm):
    torch.manual_seed(0)
    conv, norm = conv(6, 8, 3, bias=bias), filled(norm(8))
    x = torch.randn(2, 6, 7, 5)
    with torch.no_grad():
        expected = norm(conv(x))
        fold(conv, norm)
        torch.testing.assert_close(conv(x), expected)


@pytest.mark.parametrize(
    "norm", [None, nn.GroupNorm(2, 8), nn.BatchNorm2d(8, track_running_stats=False), nn.ReLU()]
)
def test_what_cannot_be_folded(norm):
    assert not can_fold(norm)


def test_norms_without_weights():
    conv, norm = nn.Conv2d(6, 8, 3), filled(nn.BatchNorm2d(8, affine=False))
    x = torch.randn(2, 6, 7, 5)
    with torch.no_grad():
        expected = norm(conv(x))
        fold(conv, norm)
        torch.testing.assert_close(conv(x), expected)
