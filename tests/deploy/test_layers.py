"""The order in which oneDNN has the weights of fused convolutions; the rest is in test_optimize."""

import pytest
import torch
import torch.nn.functional as F

from resnest_d2.deploy import layers
from resnest_d2.deploy.layers import FusedConv2d


def prepared(*args, **kwargs):
    conv = FusedConv2d(*args, **kwargs)
    conv.prepare()
    if not conv.pack:
        pytest.skip("a torch without oneDNN")
    return conv


@pytest.mark.parametrize(("kernel", "times"), [(1, 3), (3, 1)])
def test_1x1_weights_are_ordered_for_each_size(kernel, times, monkeypatch):
    conv = prepared(64, 128, kernel, padding=kernel // 2)
    ordered, order = [], torch.ops.mkldnn._reorder_convolution_weight
    monkeypatch.setattr(
        torch.ops.mkldnn,
        "_reorder_convolution_weight",
        lambda *args: ordered.append((torch.get_num_threads(), *args[-1])) or order(*args),
    )
    maps = [torch.randn(1, 64, size, 9).to(memory_format=torch.channels_last) for size in (5, 40)]
    threads = torch.get_num_threads()
    with torch.no_grad():
        for x in [*maps, *maps]:
            plain = F.conv2d(x, conv.weight, conv.bias, padding=kernel // 2)
            torch.testing.assert_close(conv(x), plain, rtol=0, atol=1e-5)
        torch.set_num_threads(threads + 1)
        conv(maps[0])
        torch.set_num_threads(threads)
    expected = [(threads, 1, 64, 5, 9), (threads, 1, 64, 40, 9), (threads + 1, 1, 64, 5, 9)]
    assert ordered == expected[:times]


def test_few_orders_of_weights_are_kept(monkeypatch):
    conv = prepared(64, 128, 1)
    orders = iter(["a", "b", "a", "b", "c", "d", "e"])
    monkeypatch.setattr(layers, "onednn_order", lambda packed: next(orders))
    kept = []
    with torch.no_grad():
        for size in range(1, 8):
            conv(torch.randn(1, 64, size, 9))
            kept.append(len({id(packed) for packed in conv.packed.values()}))
    assert kept == [1, 2, 2, 2, 3, 4, 1]
