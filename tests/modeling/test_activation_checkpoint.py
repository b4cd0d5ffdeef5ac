import copy
import itertools
import sys
from pathlib import Path

import pytest
import torch
from detectron2.layers import batch_norm
from detectron2.modeling import build_backbone, build_model
from detectron2.utils.events import EventStorage
from torch.utils import checkpoint as torch_checkpoint
from torch.utils._python_dispatch import TorchDispatchMode

from resnest_d2.modeling import ResNeSt, block

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

from benchmarking.training import Living, training_inputs


@pytest.fixture(autouse=True)
def enough_torch(request):
    selective = hasattr(torch_checkpoint, "create_selective_checkpoint_contexts")
    if not selective and "light" in request.node.name:
        pytest.skip("ACTIVATION_CHECKPOINT 'light' needs torch 2.4")


MODES = pytest.mark.parametrize("mode", ["light", "block"])


def small(mode, **kwargs):
    torch.manual_seed(0)
    kwargs = {"width": 16, "res2_channels": 64, **kwargs}
    return ResNeSt(14, activation_checkpoint=mode, **kwargs).train()


def step(net, x):
    """Loss, gradients and buffers after a training step; the bytes kept for its backward pass."""
    with Living() as living:
        outputs = net(x)
        kept = living.count()
    loss = sum(v.float().square().mean() for v in outputs.values())
    loss.backward()
    grads = {k: p.grad for k, p in net.named_parameters() if p.grad is not None}
    return loss.detach(), grads, dict(net.named_buffers()), kept


VARIANTS = [
    {},
    {"radix": 0},
    {"radix": 1},
    {"radix": 4, "num_groups": 2},
    {"avd_first": True},
    {"norm": "GN", "width": 32},
    {"norm": "SyncBN"},
    {"deform_on_per_stage": (False, True, True, True), "deform_modulated": True},
    {"freeze_at": 2},
]


@pytest.mark.parametrize(
    ("mode", "kwargs"),
    [
        *itertools.product(["light", "block"], VARIANTS),
        ("block", {"norm": "FrozenBN"}),  # which "light" refuses
    ],
    ids=str,
)
def test_loss_gradients_and_statistics_are_those_without(mode, kwargs):
    x = torch.rand(2, 3, 64, 64)
    ours, expected = step(small(mode, **kwargs), x), step(small("none", **kwargs), x)
    torch.testing.assert_close(ours[:2], expected[:2])
    torch.testing.assert_close(ours[2], expected[2])
    assert ours[3] < expected[3]


@MODES
def test_statistics_are_updated_once(mode):
    net = small(mode)
    bn = net.res3[0].conv2.bn0
    bn.momentum = None  # a plain average over all batches
    for batches in (1, 2):
        step(net, torch.rand(2, 3, 64, 64))
        assert bn.num_batches_tracked == batches and bn.momentum is None
    assert net.state_dict()["res3.0.conv2.bn0.num_batches_tracked"] == 2


@MODES
def test_statistics_of_naive_sync_norms_are_updated_once(mode, monkeypatch):
    # As in a group of two processes with the same batch; its training branch always tracks.
    monkeypatch.setattr(batch_norm.comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(batch_norm.dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(batch_norm, "differentiable_all_reduce", lambda v: 2 * v)
    x = torch.rand(2, 3, 64, 64)
    ours, expected = (step(small(name, norm="naiveSyncBN"), x) for name in (mode, "none"))
    torch.testing.assert_close(ours[:3], expected[:3])
    assert ours[2]["res3.0.conv2.bn0.running_mean"].abs().max() > 0


@pytest.mark.parametrize(("mode", "most"), [("light", 0.7), ("block", 0.3)])
def test_bytes_kept(mode, most):
    x = torch.rand(2, 3, 96, 96)
    kept = {name: step(small(name, freeze_at=2), x)[3] for name in ("none", mode)}
    assert kept[mode] < most * kept["none"]


@MODES
def test_frozen_blocks_run_once(mode):
    net, number = small(mode, freeze_at=3), dict.fromkeys(["res2", "res3", "res4", "res5"], 0)
    for name in number:

        def count(*_, name=name):
            number[name] += 1

        getattr(net, name)[0].conv1.register_forward_hook(count)
    step(net, torch.rand(2, 3, 64, 64))
    assert number == {"res2": 1, "res3": 1, "res4": 2, "res5": 2}


class Convolutions(TorchDispatchMode):
    """Counts them, beneath what recomputation puts in their place."""

    number = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.number += function is torch.ops.aten.convolution.default
        return function(*args, **(kwargs or {}))


def test_light_computes_no_convolution_again():
    number = {}
    for mode in ("none", "light", "block"):
        with Convolutions() as convolutions:
            step(small(mode), torch.rand(2, 3, 64, 64))
        number[mode] = convolutions.number
    assert number["light"] == number["none"] < number["block"]


@MODES
def test_autocast(mode):
    x, losses = torch.rand(2, 3, 64, 64), []
    for name in ("none", mode):
        with torch.autocast("cpu", torch.bfloat16):
            losses.append(step(small(name), x)[:2])
    torch.testing.assert_close(losses[1], losses[0])


@MODES
def test_it_is_off_outside_training(mode, monkeypatch):
    monkeypatch.setattr(block, "recompute", None)  # would fail if called
    net, x = small(mode), torch.rand(1, 3, 64, 64)
    plain = small("none").eval()
    with torch.no_grad():
        net(torch.rand(2, 3, 64, 64))
    net.load_state_dict(plain.state_dict())
    net.eval()
    torch.testing.assert_close(net(x), plain(x))
    traced = torch.jit.trace(copy.deepcopy(net).train(), torch.rand(2, 3, 64, 64), strict=False)
    assert traced(torch.rand(2, 3, 64, 64))["res5"].shape == (2, 512, 2, 2)


@MODES
def test_scripts(mode):
    from detectron2.export.torchscript_patch import patch_nonscriptable_classes

    patch_nonscriptable_classes()
    net, x = small(mode).eval(), torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(torch.jit.script(net)(x)["res5"], net(x)["res5"])


@MODES
def test_the_key_reaches_every_block(mode, cfg):
    cfg.MODEL.RESNETS.ACTIVATION_CHECKPOINT = mode
    net = build_backbone(cfg)
    assert {b.activation_checkpoint for stage in net.stages for b in stage} == {mode}


@MODES
def test_losses_of_twenty_steps(mode, rcnn_cfg):
    rcnn_cfg.MODEL.ROI_BOX_HEAD.NUM_CONV, rcnn_cfg.MODEL.ROI_BOX_HEAD.CONV_DIM = 2, 16
    rcnn_cfg.MODEL.ROI_BOX_HEAD.NORM, rcnn_cfg.MODEL.MASK_ON = "BN", False
    histories = []
    for kind in ("none", mode):
        rcnn_cfg.MODEL.RESNETS.ACTIVATION_CHECKPOINT = kind
        torch.manual_seed(0)
        net = build_model(rcnn_cfg).train()
        assert net.roi_heads.box_head.activation_checkpoint == kind
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
        histories.append([])
        for number in range(20):
            torch.manual_seed(number)
            losses = train_step(net, optimizer, training_inputs((64, 96), 2))
            histories[-1].append(losses)
    expected, ours = torch.tensor(histories)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=0)
    assert expected[-1] < 0.8 * expected[0]  # it learns


def train_step(net, optimizer, inputs):
    with EventStorage():
        loss = sum(net(inputs).values())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def test_unknown_value(cfg):
    cfg.MODEL.RESNETS.ACTIVATION_CHECKPOINT = "full"
    with pytest.raises(
        ValueError, match=r"ACTIVATION_CHECKPOINT is 'full'; choose from \('none', 'light'"
    ):
        build_backbone(cfg)
    with pytest.raises(ValueError, match="ACTIVATION_CHECKPOINT is 'full'"):
        ResNeSt(14, activation_checkpoint="full")


@pytest.mark.parametrize("norm", ["", "FrozenBN"])
def test_light_needs_norms_that_train(norm, cfg):
    cfg.MODEL.RESNETS.ACTIVATION_CHECKPOINT, cfg.MODEL.RESNETS.NORM = "light", norm
    with pytest.raises(ValueError, match=f"ACTIVATION_CHECKPOINT is 'light'.*NORM '{norm}'"):
        build_backbone(cfg)
    cfg.MODEL.RESNETS.ACTIVATION_CHECKPOINT = "block"
    net, x = build_backbone(cfg).train(), torch.rand(1, 3, 64, 64)
    assert step(net, x)[1]["res5.0.conv3.weight"].abs().max() > 0


def test_light_needs_torch_2_4(cfg, monkeypatch):
    monkeypatch.delattr(torch_checkpoint, "create_selective_checkpoint_contexts")
    cfg.MODEL.RESNETS.ACTIVATION_CHECKPOINT = "light"
    with pytest.raises(ValueError, match="ACTIVATION_CHECKPOINT is 'light', which needs torch 2.4"):
        build_backbone(cfg)
