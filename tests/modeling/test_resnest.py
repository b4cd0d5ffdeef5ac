import math

import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling import build_backbone
from torch import nn

from resnest_d2.config.rules import NORMS
from resnest_d2.layers import DeformConv2d, SplitAttentionConv2d
from resnest_d2.modeling import ARCHS, ResNeSt, ResNeStBottleneck
from resnest_d2.modeling.resnest import BasicStem
from resnest_d2.modeling.stem import DeepStem

# Parameters of the published classifiers, in millions (authors' and timm's tables); ResNeSt-152
# has none.
PUBLISHED = {14: 10.61, 26: 17.07, 50: 27.48, 101: 48.28, 200: 70.20, 269: 110.93}


@pytest.mark.parametrize("depth", PUBLISHED)
def test_published_number_of_parameters(depth):
    with torch.device("meta"):
        net = ResNeSt(depth, num_classes=1000, out_features=["res5", "linear"])
    millions = sum(p.numel() for p in net.parameters()) / 1e6
    assert millions == pytest.approx(PUBLISHED[depth], abs=0.005)


@pytest.mark.parametrize("depth", ARCHS)
def test_outputs(depth):
    with torch.device("meta"):
        net = ResNeSt(depth)
        outputs = net(torch.zeros(1, 3, 65, 96))
    assert sum(len(stage) for stage in net.stages) == sum(ARCHS[depth].blocks)
    expected = [("res2", 256, 4), ("res3", 512, 8), ("res4", 1024, 16), ("res5", 2048, 32)]
    for name, channels, stride in expected:
        size = (math.ceil(65 / stride), math.ceil(96 / stride))
        assert outputs[name].shape == (1, channels, *size)
        assert net.output_shape()[name] == ShapeSpec(channels=channels, stride=stride)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("radix", [0, 1, 2, 4])
def test_radix_and_cardinality_are_counted_once(radix, groups, cfg):
    cfg.merge_from_list(["MODEL.RESNETS.RADIX", radix, "MODEL.RESNETS.NUM_GROUPS", groups])
    conv2 = build_backbone(cfg).res3[0].conv2
    width = 128 * groups
    if radix == 0:
        assert not isinstance(conv2, SplitAttentionConv2d)
        assert conv2.weight.shape == (width, width // groups, 3, 3)
    else:
        assert conv2.conv.weight.shape == (width * radix, width // (groups * radix), 3, 3)
        assert conv2.fc1.weight.shape == (max(width * radix // 4, 32), width // groups, 1, 1)


def strides(block):
    """Which parts of a block carry its stride."""
    conv2 = block.conv2.conv if isinstance(block.conv2, SplitAttentionConv2d) else block.conv2
    pools = {"avd_before": block.avd_before, "avd_after": block.avd_after}
    pools["shortcut_pool"] = block.shortcut_pool
    convs = {"conv1": block.conv1, "conv2": conv2, "shortcut": block.shortcut}
    found = {name for name, pool in pools.items() if pool is not None}
    return found | {name for name, conv in convs.items() if conv.stride[0] == 2}


@pytest.mark.parametrize("radix", [0, 2])
@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, {"avd_after", "shortcut_pool"}),
        ({"AVD_FIRST": True}, {"avd_before", "shortcut_pool"}),
        ({"AVD": False}, {"conv2", "shortcut_pool"}),
        ({"AVG_DOWN": False}, {"avd_after", "shortcut"}),
        ({"AVD": False, "STRIDE_IN_1X1": True}, {"conv1", "shortcut_pool"}),
    ],
)
def test_every_key_of_the_stride_is_honoured(keys, expected, radix, cfg):
    for key, value in {"RADIX": radix, **keys}.items():
        cfg.MODEL.RESNETS[key] = value
    net = build_backbone(cfg)
    assert strides(net.res4[0]) == expected
    assert net(torch.rand(1, 3, 64, 64))["res5"].shape == (1, 2048, 2, 2)


def test_deep_stem(cfg):
    stem = build_backbone(cfg).stem
    assert isinstance(stem, DeepStem)
    widths = [stem.conv1_1.out_channels, stem.conv1_2.out_channels, stem.conv1_3.out_channels]
    assert widths == [32, 32, 64] and stem(torch.rand(1, 3, 32, 32)).shape == (1, 64, 8, 8)
    cfg.MODEL.RESNETS.DEEP_STEM = False
    assert isinstance(build_backbone(cfg).stem, BasicStem)


@pytest.mark.parametrize("deep", [True, False])
def test_input_channels(deep, cfg):
    cfg.MODEL.RESNETS.DEEP_STEM = deep
    net = build_backbone(cfg, ShapeSpec(channels=5))
    assert net(torch.rand(1, 5, 64, 64))["res2"].shape == (1, 256, 16, 16)


def test_bottleneck_width(cfg):
    cfg.MODEL.RESNETS.BOTTLENECK_WIDTH = 40
    assert build_backbone(cfg).res3[0].conv1.out_channels == 80


def test_res5_dilation(cfg):
    cfg.MODEL.RESNETS.RES5_DILATION = 2
    net = build_backbone(cfg)
    assert net.output_shape()["res5"].stride == 16
    assert net.res5[0].conv2.conv.dilation == (2, 2) and net.res4[0].conv2.conv.dilation == (1, 1)
    assert net(torch.rand(1, 3, 64, 64))["res5"].shape == (1, 2048, 4, 4)


@pytest.mark.parametrize("radix", [0, 2])
@pytest.mark.parametrize("modulated", [False, True])
def test_deformable_stages_learn(modulated, radix, cfg):
    torch.manual_seed(0)
    keys = cfg.MODEL.RESNETS
    keys.DEFORM_ON_PER_STAGE = [False, True, True, True]
    keys.DEFORM_MODULATED, keys.DEFORM_NUM_GROUPS, keys.RADIX = modulated, 2, radix
    net = build_backbone(cfg).train()
    assert not any(isinstance(m, DeformConv2d) for m in net.res2.modules())
    offset = net.res3[0].conv2_offset
    assert offset.weight.shape == ((54 if modulated else 36), 64, 3, 3)
    nn.init.normal_(offset.weight, std=0.01)  # at zero, the grid's corners have no clear gradient
    net(torch.rand(2, 3, 64, 64))["res5"].square().mean().backward()
    assert offset.weight.grad.abs().max() > 0
    assert net.res5[0].conv2_offset.bias.grad.abs().max() > 0


@pytest.mark.parametrize("freeze_at", range(6))
def test_freeze_at(freeze_at, cfg):
    cfg.MODEL.BACKBONE.FREEZE_AT = freeze_at
    net = build_backbone(cfg)
    for i, name in enumerate(["stem", "res2", "res3", "res4", "res5"], 1):
        part = getattr(net, name)
        frozen = i <= freeze_at
        assert all(p.requires_grad is not frozen for p in part.parameters()), name
        norms = [m for m in part.modules() if hasattr(m, "running_mean")]
        assert norms and all(isinstance(m, FrozenBatchNorm2d) is frozen for m in norms), name


@pytest.mark.parametrize("name", NORMS)
def test_every_norm(name, cfg):
    torch.manual_seed(0)
    cfg.MODEL.RESNETS.NORM = name
    net = build_backbone(cfg).train()
    x = torch.rand(2, 3, 64, 64)
    outputs = net(x)
    sum(v.square().mean() for v in outputs.values()).backward()
    for parameter_name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), parameter_name
    assert net.eval()(x)["res5"].isfinite().all()


def test_scripts_like_detectron2s_resnet():
    from detectron2.export.torchscript_patch import patch_nonscriptable_classes

    patch_nonscriptable_classes()
    torch.manual_seed(0)
    net = ResNeSt(14, deform_on_per_stage=(False, False, False, True)).eval()
    x = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(torch.jit.script(net)(x)["res5"], net(x)["res5"])


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"AVD": False, "AVD_FIRST": True}, ["AVD_FIRST", "AVD False"]),
        ({"WIDTH_PER_GROUP": 32, "BOTTLENECK_WIDTH": 40}, ["WIDTH_PER_GROUP", "BOTTLENECK_WIDTH"]),
        ({"DEPTH": 34}, ["DEPTH is 34", "14, 26, 50, 101, 152, 200, 269"]),
        ({"RADIX": -1}, ["RADIX is -1"]),
        ({"NUM_GROUPS": 0}, ["NUM_GROUPS is 0"]),
        ({"RES5_DILATION": 3}, ["RES5_DILATION is 3", "(1, 2)"]),
        ({"NORM": "BatchNorm"}, ["NORM is 'BatchNorm'", "'SyncBN'"]),
        ({"STEM_OUT_CHANNELS": 63}, ["STEM_OUT_CHANNELS is 63", "even"]),
        ({"DEFORM_ON_PER_STAGE": [True]}, ["DEFORM_ON_PER_STAGE", "four"]),
        (
            {"DEFORM_ON_PER_STAGE": [True] * 4, "DEFORM_NUM_GROUPS": 3},
            ["64 channels", "DEFORM_NUM_GROUPS 3"],
        ),
    ],
)
def test_contradictions(keys, words, cfg):
    for key, value in keys.items():
        cfg.MODEL.RESNETS[key] = value
    with pytest.raises(ValueError) as error:
        build_backbone(cfg)
    for word in words:
        assert word in str(error.value)


def test_freeze_at_out_of_range(cfg):
    cfg.MODEL.BACKBONE.FREEZE_AT = 6
    with pytest.raises(ValueError, match="FREEZE_AT is 6"):
        build_backbone(cfg)


def test_unpublished_stem_is_said(cfg, caplog):
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = 101, 96
    with torch.device("meta"):
        build_backbone(cfg)
    assert "published ResNeSt-101 has 128" in caplog.text


def test_the_stem_follows_the_depth_where_it_has_detectron2s_default(cfg, caplog):
    caplog.set_level("INFO")
    cfg.MODEL.RESNETS.DEPTH = 101
    with torch.device("meta"):
        assert build_backbone(cfg).stem.out_channels == 128
        assert "STEM_OUT_CHANNELS is 128 and not detectron2's 64" in caplog.text
        cfg.MODEL.RESNETS.DEEP_STEM = False
        assert build_backbone(cfg).stem.out_channels == 64


def test_the_average_pool_carries_the_stride_where_stride_in_1x1_is_detectron2s_default(cfg):
    cfg.MODEL.RESNETS.STRIDE_IN_1X1 = True
    cfg.freeze()
    block = build_backbone(cfg).res3[0]
    assert (block.conv1.stride, block.conv2.conv.stride, block.avd_after.stride) == (
        (1, 1),
        (1, 1),
        2,
    )


def test_bottleneck_keeps_gradients_of_every_parameter():
    torch.manual_seed(0)
    block = ResNeStBottleneck(64, 128, bottleneck_channels=32, stride=2)
    block(torch.rand(2, 64, 9, 7)).square().mean().backward()
    for name, parameter in block.named_parameters():
        assert parameter.grad.abs().max() > 0, name


def test_shortcut_pool_keeps_the_last_odd_row():
    # ceil_mode without counting padding: the last window of a 5-pixel side holds one pixel.
    block = ResNeStBottleneck(4, 8, bottleneck_channels=8, radix=0, stride=2)
    x = torch.arange(25.0).view(1, 1, 5, 5).expand(1, 4, 5, 5)
    pooled = block.shortcut_pool(x)
    assert pooled.shape == (1, 4, 3, 3) and pooled[0, 0, 2, 2] == 24


def test_avd_pool_counts_padding():
    block = ResNeStBottleneck(4, 8, bottleneck_channels=8, radix=0, stride=2)
    assert block.avd_after(torch.ones(1, 8, 4, 4))[0, 0, 0, 0] == pytest.approx(4 / 9)
