"""The box head computes what detectron2's does, and keeps less for the backward pass."""

import sys
from pathlib import Path

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.modeling.roi_heads import FastRCNNConvFCHead
from torch.utils import checkpoint as torch_checkpoint

from resnest_d2.modeling import CheckpointConvFCHead

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

from benchmarking.training import Living


def head(activation_checkpoint, *, norm="BN", convs=4):
    torch.manual_seed(0)
    shape = ShapeSpec(channels=16, height=7, width=7)
    options = {"conv_dims": [16] * convs, "fc_dims": [32], "conv_norm": norm}
    if activation_checkpoint is None:
        return FastRCNNConvFCHead(shape, **options)
    return CheckpointConvFCHead(shape, activation_checkpoint=activation_checkpoint, **options)


def step(net):
    """Output, gradients and buffers after a step; bytes kept for its backward pass."""
    torch.manual_seed(1)
    x = torch.rand(8, 16, 7, 7, requires_grad=True)
    with Living() as living:
        out = net(x)
        kept = living.count()
    out.square().sum().backward()
    grads = {name: p.grad for name, p in net.named_parameters()}
    return (out.detach(), x.grad, grads, dict(net.named_buffers())), kept


@pytest.mark.parametrize(("mode", "most"), [("none", 1.0), ("light", 0.7), ("block", 0.3)])
def test_values_and_bytes(mode, most):
    if mode == "light" and not hasattr(torch_checkpoint, "create_selective_checkpoint_contexts"):
        pytest.skip("ACTIVATION_CHECKPOINT 'light' needs torch 2.4")
    (ours, kept), (expected, before) = step(head(mode)), step(head(None))
    torch.testing.assert_close(ours, expected)
    assert kept <= most * before


def test_light_leaves_heads_without_trained_norms_alone():
    for options in ({"norm": ""}, {"norm": "FrozenBN"}, {"convs": 0}):
        assert head("light", **options).activation_checkpoint == "none"
    assert head("block", norm="").activation_checkpoint == "block"
    assert head("block", convs=0).activation_checkpoint == "none"


def test_an_unknown_mode():
    with pytest.raises(ValueError, match="ACTIVATION_CHECKPOINT is 'all'; choose from"):
        head("all")


def test_out_of_a_config_and_scripted(rcnn_cfg):
    rcnn_cfg.MODEL.ROI_BOX_HEAD.NUM_CONV, rcnn_cfg.MODEL.ROI_BOX_HEAD.CONV_DIM = 1, 16
    rcnn_cfg.MODEL.RESNETS.ACTIVATION_CHECKPOINT = "block"
    net = build_model(rcnn_cfg).roi_heads.box_head
    assert net.activation_checkpoint == "block" and list(net.state_dict()) == [
        "conv1.weight", "conv1.bias", "fc1.weight", "fc1.bias",
    ]  # fmt: skip
    x = torch.rand(3, 16, 7, 7)
    torch.testing.assert_close(torch.jit.script(net)(x), net.eval()(x))
