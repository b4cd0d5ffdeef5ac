import logging
import math

import pytest
import torch
import torch.nn.functional as F

from resnest_d2.layers import SplitAttentionConv2d, norm


def naive_split_attention(layer, x):
    """The paper's formulas, a cardinal group and a split at a time."""
    x = F.relu(layer.bn0(layer.conv(x)))
    splits = x.split(x.shape[1] // layer.radix, dim=1)
    hidden = F.relu(layer.bn1(layer.fc1(F.adaptive_avg_pool2d(sum(splits), 1))))
    logits = layer.fc2(hidden)
    per_group = splits[0].shape[1] // layer.groups
    out = torch.zeros_like(splits[0])
    for k in range(layer.groups):
        rows = [
            logits[:, (k * layer.radix + r) * per_group : (k * layer.radix + r + 1) * per_group]
            for r in range(layer.radix)
        ]
        weights = torch.sigmoid(rows[0])[None] if layer.radix == 1 else torch.stack(rows).softmax(0)
        part = slice(k * per_group, (k + 1) * per_group)
        for r in range(layer.radix):
            out[:, part] += weights[r] * splits[r][:, part]
    return out


def randomise_norms(module):
    for m in module.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.running_mean.uniform_(-0.2, 0.2)
            m.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(m.weight, 0.5, 1.5)
            torch.nn.init.uniform_(m.bias, -0.2, 0.2)


@pytest.mark.parametrize("radix", [1, 2, 4])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_equals_naive_reference(radix, groups):
    torch.manual_seed(0)
    layer = SplitAttentionConv2d(64, 64, radix=radix, groups=groups).eval()
    randomise_norms(layer)
    x = torch.rand(2, 64, 7, 5)
    torch.testing.assert_close(layer(x), naive_split_attention(layer, x))


@pytest.mark.parametrize("radix", [1, 2, 4])
def test_attention_weights(radix):
    torch.manual_seed(0)
    layer = SplitAttentionConv2d(32, 32, radix=radix).eval()
    weights = layer.attention(torch.rand(3, 32, 1, 1))
    assert weights.shape == (3, radix, 32, 1, 1)
    if radix > 1:
        torch.testing.assert_close(weights.sum(1), torch.ones(3, 32, 1, 1))
    else:
        assert 0 < weights.min() and weights.max() < 1


def test_msra_initialisation():
    torch.manual_seed(0)
    layer = SplitAttentionConv2d(128, 128)
    for conv, fan_out in ((layer.conv, 256 * 9), (layer.fc1, 64), (layer.fc2, 256)):
        assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.05)
    assert layer.fc1.bias.abs().max() == 0 and layer.fc2.bias.abs().max() == 0


@pytest.mark.parametrize("name", ["", "BN", "SyncBN", "naiveSyncBN", "FrozenBN", "GN", "LN"])
def test_every_norm_trains_on_one_image(name):
    torch.manual_seed(0)
    layer = SplitAttentionConv2d(64, 64, norm=name).train()
    layer(torch.rand(1, 64, 6, 6)).square().mean().backward()
    for parameter_name, parameter in layer.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, parameter_name


def test_one_image_uses_running_statistics_and_says_so_once(caplog, monkeypatch):
    monkeypatch.setattr(norm, "_warned", set())
    torch.manual_seed(0)
    layer = SplitAttentionConv2d(32, 32)
    randomise_norms(layer)
    before = layer.bn1.running_mean.clone()
    pooled = torch.rand(1, 32, 1, 1)
    with caplog.at_level(logging.WARNING):
        trained = layer.train().attention(pooled)
        layer.attention(pooled)
    torch.testing.assert_close(trained, layer.eval().attention(pooled))
    torch.testing.assert_close(layer.bn1.running_mean, before)
    assert len(caplog.records) == 1 and "batch of one image" in caplog.text
    layer.train().attention(torch.rand(2, 32, 1, 1))
    assert not torch.equal(layer.bn1.running_mean, before)


@pytest.mark.parametrize("groups", [1, 2])
def test_group_norm_attention_follows_the_image(groups):
    torch.manual_seed(0)
    layer = SplitAttentionConv2d(64, 64, groups=groups, norm="GN")
    a, b = layer.attention(torch.rand(2, 64, 1, 1))
    assert (a - b).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [({"radix": 0}, "radix and groups"), ({"groups": 3}, "groups x radix = 3 x 2")],
)
def test_errors(kwargs, message):
    with pytest.raises(ValueError, match=message):
        SplitAttentionConv2d(64, 64, **kwargs)
