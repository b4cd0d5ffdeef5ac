"""get_backbone: names, weights, and what is refused."""

import published
import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d

from resnest_d2 import ResNeSt, get_backbone
from resnest_d2.modeling import DeepStem


@pytest.fixture
def mirror(tmp_path, monkeypatch, weights_cache):
    """A folder of weights that holds timm's ResNeSt-14, all of it 0.5."""
    torch.save(published.fill(published.imagenet(14)), tmp_path / "resnest14d.gluon_in1k.pth")
    monkeypatch.setenv("RESNEST_D2_WEIGHTS", str(tmp_path))


@pytest.mark.parametrize("name", ["resnest14", "resnest14d", "timm/resnest14d"])
def test_published_weights_fill_it(name, mirror):
    backbone = get_backbone(name, trained=True)
    assert isinstance(backbone, ResNeSt) and backbone.training
    assert all(p.requires_grad and bool((p == 0.5).all()) for p in backbone.parameters())


def test_without_them_it_is_random():
    torch.manual_seed(0)
    weight = get_backbone("resnest14").res2[0].conv1.weight
    assert weight.std() > 0.01


def test_gives_the_maps_asked_for():
    backbone = get_backbone("resnest14", out_features=("res3", "res5"), norm="FrozenBN").eval()
    shapes = backbone.output_shape()
    assert {name: (s.channels, s.stride) for name, s in shapes.items()} == {
        "res3": (512, 8),
        "res5": (2048, 32),
    }
    maps = backbone(torch.rand(1, 3, 64, 96))
    assert maps["res3"].shape == (1, 512, 8, 12) and maps["res5"].shape == (1, 2048, 2, 3)
    assert isinstance(backbone.res2[0].conv1.norm, FrozenBatchNorm2d)


@pytest.mark.parametrize(
    ("name", "blocks", "stem", "radix", "groups"),
    [
        ("resnest50", 3 + 4 + 6 + 3, 64, 2, 1),
        ("resnest101", 3 + 4 + 23 + 3, 128, 2, 1),
        ("imagenet/resnest50_detectron", 3 + 4 + 6 + 3, 64, 2, 1),
        ("resnest50d_4s2x40d", 3 + 4 + 6 + 3, 64, 4, 2),
    ],
)
def test_a_name_means_its_architecture(name, blocks, stem, radix, groups):
    with torch.device("meta"):
        backbone = get_backbone(name)
    assert sum(len(stage) for stage in backbone.stages) == blocks
    assert isinstance(backbone.stem, DeepStem) and backbone.stem.out_channels == stem
    split = backbone.res2[0].conv2
    assert (split.radix, split.groups) == (radix, groups)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet50"}, "no backbone 'resnet50'; close names: resnest50"),
        ({"name": "mask_rcnn_s50"}, "mask_rcnn_s50 is a detector, no backbone"),
        ({"name": "resnest152", "trained": True}, "no published weights of resnest152; choose"),
        ({"out_features": ["res6"]}, "out_features is ..res6..; choose from .*res5"),
        ({"out_features": []}, "out_features is ..; choose from"),
        ({"norm": "XN"}, "NORM is 'XN'; choose from"),
    ],
)
def test_what_cannot_be_had(arguments, message):
    with pytest.raises(ValueError, match=message):
        get_backbone(**arguments)
