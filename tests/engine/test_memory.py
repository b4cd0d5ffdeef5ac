import pytest
import small
import torch
from torch import nn

from resnest_d2 import load_config
from resnest_d2.checkpoint.fitting import build_on_meta
from resnest_d2.engine.memory import training_bytes


class Plain(nn.Module):
    """Two convolutions, of which a training step keeps the input and one map."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Module()
        self.first, self.second = nn.Conv2d(3, 8, 1, bias=False), nn.Conv2d(8, 4, 1, bias=False)
        self.backbone.forward = lambda x: {"p2": self.second(self.first(x))}
        self.backbone.size_divisibility = 32


def test_counts_weights_and_what_the_backward_pass_needs():
    cfg = load_config(small.FASTER, ["INPUT.MIN_SIZE_TRAIN", (40,), "INPUT.MAX_SIZE_TRAIN", 64])
    with torch.device("meta"):
        model = Plain()
    pixels = 2 * 64 * 64  # padded to multiples of 32
    weights = 3 * 8 + 8 * 4
    assert training_bytes(model, cfg, 2) == 4 * (3 * weights + (3 + 8) * pixels)
    model.first.weight.requires_grad = False  # neither a gradient nor its input
    assert training_bytes(model, cfg, 2) == 4 * (weights + 2 * 8 * 4 + 8 * pixels)


@pytest.mark.parametrize(
    "config",
    [small.FASTER, "COCO-InstanceSegmentation/cascade_mask_rcnn_ResNeSt_50_FPN_1x.yaml"],
)
def test_grows_with_the_batch_and_shrinks_by_recomputing(config):
    def size(images, *opts):
        cfg = load_config(config, opts)
        return training_bytes(build_on_meta(cfg), cfg, images)

    one, two = size(1), size(2)
    fixed = 2 * one - two
    weights = sum(p.numel() for p in build_on_meta(load_config(config)).parameters())
    assert 4 * weights <= fixed <= 13 * weights
    assert size(1, "MODEL.RESNETS.ACTIVATION_CHECKPOINT", "block") < one
