import pytest
import torch
import torch.nn.functional as F

from resnest_d2.layers import DeformConv2d


def make(modulated, groups=1):
    torch.manual_seed(0)
    return DeformConv2d(
        8, 4, kernel_size=3, padding=1, bias=False, groups=groups, modulated=modulated
    )


def no_offset(modulated, size, deform_groups=1):
    return torch.zeros(2, DeformConv2d.offset_channels(modulated, deform_groups), *size)


def test_without_displacement_it_is_a_convolution():
    conv, x = make(False, groups=2), torch.rand(2, 8, 6, 7)
    torch.testing.assert_close(
        conv(x, no_offset(False, (6, 7))), F.conv2d(x, conv.weight, padding=1, groups=2)
    )


def test_mask_is_a_sigmoid_of_the_last_third():
    conv, x = make(True), torch.rand(2, 8, 6, 7)
    plain = F.conv2d(x, conv.weight, padding=1)
    offset = no_offset(True, (6, 7))
    torch.testing.assert_close(conv(x, offset), plain / 2)  # sigmoid(0)
    offset[:, 18:] = 30.0
    torch.testing.assert_close(conv(x, offset), plain)


@pytest.mark.parametrize("modulated", [False, True])
def test_displacement_is_y_then_x_in_pixels(modulated):
    conv, x = make(modulated), torch.rand(2, 8, 9, 9)
    offset = no_offset(modulated, (9, 9))
    offset[:, 0:18:2] = 1.0  # y of every tap
    offset[:, 18:] = 30.0
    shifted = F.conv2d(x, conv.weight, padding=1)[:, :, 2:-1, 1:-1]
    torch.testing.assert_close(conv(x, offset)[:, :, 1:-2, 1:-1], shifted)


def test_deformable_groups_move_their_own_channels():
    conv, x = make(False), torch.rand(2, 8, 9, 9)
    offset = no_offset(False, (9, 9), deform_groups=2)
    offset[:, 18::2] = 1.0  # y of the second group
    moved = torch.cat([x[:, :4, 1:-2], x[:, 4:, 2:-1]], dim=1)
    expected = F.conv2d(moved, conv.weight, padding=1)[:, :, 1:-1, 1:-1]
    torch.testing.assert_close(conv(x, offset)[:, :, 2:-3, 1:-1], expected)


def test_gradients():
    conv = make(True).double()
    x = torch.rand(1, 8, 4, 4, dtype=torch.double, requires_grad=True)
    offset = (0.3 * torch.randn(1, 27, 4, 4)).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: conv(a, b), (x, offset), fast_mode=True)
    conv(x, offset).sum().backward()
    assert conv.weight.grad.abs().max() > 0
