import published
import pytest

from resnest_d2.checkpoint.layouts import LAYOUTS, get_layout, recognise, translate


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("neck.lateral_convs.0.conv.bias", "backbone.fpn_lateral2.bias"),
        ("neck.fpn_convs.3.conv.weight", "backbone.fpn_output5.weight"),
        ("rpn_head.rpn_cls.bias", "proposal_generator.rpn_head.objectness_logits.bias"),
        ("roi_head.bbox_head.shared_fcs.0.weight", "roi_heads.box_head.fc1.weight"),
        (
            "roi_head.bbox_head.2.shared_convs.3.bn.running_var",
            "roi_heads.box_head.2.conv4.norm.running_var",
        ),
        ("roi_head.bbox_head.1.fc_reg.bias", "roi_heads.box_predictor.1.bbox_pred.bias"),
        ("roi_head.mask_head.convs.1.conv.weight", "roi_heads.mask_head.mask_fcn2.weight"),
        ("roi_head.mask_head.0.conv_logits.bias", "roi_heads.mask_head.0.predictor.bias"),
        ("conv1.6.weight", "stem.conv1_3.weight"),
        ("bn1.bias", "stem.conv1_3.norm.bias"),
        ("layer1.0.bn1.weight", "res2.0.conv1.norm.weight"),
        ("layer4.2.conv2.bn1.running_mean", "res5.2.conv2.bn1.running_mean"),
        ("layer3.11.conv2.fc1.bias", "res4.11.conv2.fc1.bias"),
        ("layer2.0.downsample.1.weight", "res3.0.shortcut.weight"),
        ("layer2.0.downsample.2.weight", "res3.0.shortcut.norm.weight"),
    ],
)
def test_there_and_back(theirs, ours):
    rules = LAYOUTS["torch"].backbone + LAYOUTS["mmdetection"].detector
    assert translate(theirs, rules) == ours and translate(ours, rules, reverse=True) == theirs


@pytest.mark.parametrize(
    "name", ["layer1.0.bn2.weight", "layer1.0.conv1.extra", "stem.conv1.weight"]
)
def test_no_rule(name):
    assert translate(name, LAYOUTS["torch"].backbone) is None


def test_recognised_by_the_stem():
    assert recognise(published.imagenet(14)) == (LAYOUTS["torch"], "")
    assert recognise(published.detector("mask_rcnn_s50")) == (LAYOUTS["mmdetection"], "backbone.")
    ours = published.authors(14)
    assert recognise(ours) == (LAYOUTS["detectron2"], "backbone.bottom_up.")
    bare = [n.removeprefix("backbone.bottom_up.") for n in ours]
    assert recognise(bare) == (LAYOUTS["detectron2"], "")
    mmdet_bare = [n.removeprefix("backbone.") for n in published.mmdetection(14)]
    assert recognise(mmdet_bare) == (LAYOUTS["mmdetection"], "")
    assert recognise(["conv1.weight", "layer1.0.conv1.weight"]) is None


def test_aliases_and_unknown_layouts():
    assert get_layout("timm") is LAYOUTS["torch"]
    with pytest.raises(ValueError, match="no layout 'keras'; choose from .*mmdetection"):
        get_layout("keras")
