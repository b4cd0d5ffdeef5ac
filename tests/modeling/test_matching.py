"""mmdetection's assignment of anchors and proposals, by itself and by its keys."""

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.modeling.matcher import Matcher
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from resnest_d2.config import check_config
from resnest_d2.modeling.matching import BestMatchesMatcher, outside_padding


def naive(overlaps, low, high, floor):
    """The assignment in words: thresholds first, then every object in turn takes its best boxes."""
    objects, boxes = len(overlaps), len(overlaps[0])
    matches, labels = [], []
    for b in range(boxes):
        column = [overlaps[o][b] for o in range(objects)]
        best = max(column)
        matches.append(column.index(best))
        labels.append(0 if best < low else 1 if best >= high else -1)
    for o in range(objects):
        best = max(overlaps[o])
        for b in range(boxes):
            if overlaps[o][b] == best and best >= floor:
                matches[b], labels[b] = o, 1
    return matches, labels


@pytest.mark.parametrize("seed", range(20))
def test_equals_the_assignment_object_by_object(seed):
    generator = torch.Generator().manual_seed(seed)
    overlaps = torch.randint(0, 9, (4, 30), generator=generator) / 8  # with many ties
    overlaps[0] /= 8  # an object below the floor
    matcher = BestMatchesMatcher(Matcher([0.25, 0.75], [0, -1, 1]), floor=0.25)
    matches, labels = matcher(overlaps.clone())
    expected, expected_labels = naive(overlaps.tolist(), 0.25, 0.75, 0.25)
    assert labels.tolist() == expected_labels
    positive = labels == 1
    assert matches[positive].tolist() == torch.tensor(expected)[positive].tolist()


def test_objects_among_the_proposals_stay_their_own():
    # Two objects in one place, both at the end: detectron2 gives both boxes to the first.
    overlaps = torch.tensor([[0.6, 0.2, 1.0, 1.0], [0.55, 0.7, 1.0, 1.0]])
    matches, labels = BestMatchesMatcher(Matcher([0.5], [0, 1]), floor=0.5, objects_last=True)(
        overlaps
    )
    assert matches.tolist() == [0, 1, 0, 1] and labels.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("objects_last", [False, True])
@pytest.mark.parametrize(("objects", "boxes"), [(0, 3), (2, 0)])
def test_without_objects_or_boxes(objects, boxes, objects_last):
    boxes += objects if objects_last else 0
    matcher = BestMatchesMatcher(Matcher([0.5], [0, 1]), floor=0.5, objects_last=objects_last)
    matches, labels = matcher(torch.eye(objects, boxes))
    assert matches.shape == labels.shape == (boxes,)
    assert labels.sum() == (objects if objects_last else 0)


def test_cells_of_the_padding():
    # Cells of stride 8 and 64 beside an image of 33 x 64, which alone is padded to 64 x 64.
    centers = torch.tensor([[56.0, 0], [64, 0], [0, 56], [0, 64], [0, 32], [56, 56]])
    anchors = Boxes(torch.cat([centers - 7.3, centers + 7.3], dim=1))
    kept = outside_padding(anchors, (33, 64))
    assert kept.tolist() == [True, False, True, False, True, True]


@pytest.fixture
def rpn(rcnn_cfg):
    """A function that builds the RPN with keys, and labels an image's anchors without sampling."""

    def label(boxes, size=(64, 64), *, padded=(64, 64), **keys):
        rcnn_cfg.MODEL.PROPOSAL_GENERATOR.NAME = "TwoSidedRPN"
        for key, value in keys.items():
            rcnn_cfg.MODEL.RPN[key] = value
        rpn = build_model(rcnn_cfg).proposal_generator
        rpn.batch_size_per_image, rpn.positive_fraction = 10**6, 1.0
        grids = [torch.zeros(1, 1, padded[0] // s, padded[1] // s) for s in (4, 8, 16, 32, 64)]
        truth = Instances(size)
        truth.gt_boxes = Boxes(torch.tensor(boxes).reshape(-1, 4))
        anchors = rpn.anchor_generator(grids)
        (labels,), (matched,) = rpn.label_and_sample_anchors(anchors, [truth])
        return Boxes.cat(anchors), labels, matched

    return label


# An object of an anchor's size, and a smaller one whose best anchor is that one too.
SHARED = [[16.0, 16.0, 24.0, 24.0], [16.0, 16.0, 22.0, 22.0]]


def test_rpn_gives_an_object_its_best_anchors(rpn):
    counts = {}
    for value in ("detectron2", "mmdetection"):
        _, labels, matched = rpn(SHARED, LOW_QUALITY_MATCHES=value)
        of_second = (matched == torch.tensor(SHARED[1])).all(1) & (labels == 1)
        counts[value] = int(of_second.sum())
    assert counts["mmdetection"] > counts["detectron2"]


def test_rpn_ignores_matches_below_the_lower_threshold(rpn):
    lone = [[0.0, 0.0, 2.0, 2.0]]  # overlaps no anchor by 0.3
    assert (rpn(lone, LOW_QUALITY_MATCHES="detectron2")[1] == 1).any()
    assert not (rpn(lone, LOW_QUALITY_MATCHES="mmdetection")[1] == 1).any()


def test_rpn_gives_the_best_anchor_inside_where_the_best_leaves_the_image(rpn):
    corner = [[0.0, 0.0, 6.0, 26.0]]
    keys = {"BOUNDARY_THRESH": 0}
    anchors, labels, _ = rpn(corner, LOW_QUALITY_MATCHES="mmdetection", **keys)
    inside = anchors.inside_box((64, 64), 0)
    assert (labels[~inside] == -1).all() and (labels[inside] >= 0).any()
    assert (labels == 1).any()
    # detectron2 matches first, and then leaves the anchor out that it has matched.
    _, theirs, _ = rpn(corner, LOW_QUALITY_MATCHES="detectron2", **keys)
    assert (theirs == 1).sum() < (labels == 1).sum()


def test_rpn_leaves_out_the_padding_that_a_larger_image_brings(rpn):
    box, size = [[4.0, 4.0, 20.0, 20.0]], (33, 30)
    anchors, labels, _ = rpn(box, size, padded=(128, 128))
    x, y = anchors.get_centers().round().unbind(1)
    padding = (x >= 32) | (y >= 64)
    assert (labels[padding] == 0).all()
    _, skipped, _ = rpn(box, size, padded=(128, 128), SKIP_PADDING=True)
    assert (skipped[padding] == -1).all()
    assert torch.equal(skipped[~padding], labels[~padding]) and (skipped == 1).any()


def test_rpn_without_objects(rpn):
    anchors, labels, matched = rpn([], SKIP_PADDING=True)
    assert (labels == 0).all() and matched.shape == (len(anchors), 4)


def sampled(cfg, value):
    """Classes that the heads give three proposals: one overlapped by two objects, their best."""
    cfg.MODEL.ROI_HEADS.NAME = "TwoSidedROIHeads"
    cfg.MODEL.ROI_HEADS.LOW_QUALITY_MATCHES = value
    heads = build_model(cfg).roi_heads
    truth = Instances((64, 64))
    truth.gt_boxes = Boxes(torch.tensor([[0.0, 0, 20, 20], [0.0, 0, 20, 14]]))
    truth.gt_classes = torch.tensor([0, 1])
    proposals = Instances((64, 64))
    proposals.proposal_boxes = Boxes(torch.tensor([[0.0, 0, 20, 19], [40.0, 40, 60, 60]]))
    proposals.objectness_logits = torch.zeros(2)
    with EventStorage():
        (found,) = heads.label_and_sample_proposals([proposals], [truth])
    of = (found.proposal_boxes.tensor == torch.tensor([0.0, 0, 20, 19])).all(1)
    return found.gt_classes[of].tolist(), sorted(found.gt_classes.tolist())


def test_roi_heads_give_an_object_its_best_proposal(rcnn_cfg):
    assert sampled(rcnn_cfg, "detectron2") == ([0], [0, 0, 1, 3])
    assert sampled(rcnn_cfg, "mmdetection") == ([1], [0, 1, 1, 3])


@pytest.mark.parametrize(
    ("section", "key", "value", "name"),
    [
        ("RPN", "LOW_QUALITY_MATCHES", "mmdetection", "TwoSidedRPN"),
        ("RPN", "SKIP_PADDING", True, "TwoSidedRPN"),
        ("ROI_HEADS", "LOW_QUALITY_MATCHES", "mmdetection", "TwoSidedROIHeads"),
    ],
)
def test_keys_that_the_class_does_not_know_are_refused(section, key, value, name, rcnn_cfg):
    rcnn_cfg.MODEL[section][key] = value
    with pytest.raises(ValueError, match=rf"MODEL\.{section}\.{key}.*{name}"):
        check_config(rcnn_cfg)


@pytest.mark.parametrize("section", ["RPN", "ROI_HEADS"])
def test_unknown_matching_is_refused(section, rcnn_cfg):
    rcnn_cfg.MODEL.PROPOSAL_GENERATOR.NAME = "TwoSidedRPN"
    rcnn_cfg.MODEL.ROI_HEADS.NAME = "TwoSidedROIHeads"
    rcnn_cfg.MODEL[section].LOW_QUALITY_MATCHES = "mmdet"
    with pytest.raises(ValueError, match=rf"MODEL\.{section}\.LOW_QUALITY_MATCHES is 'mmdet'"):
        check_config(rcnn_cfg)


def test_a_step_trains_on_images_of_two_sizes(rcnn_cfg):
    rcnn_cfg.MODEL.MASK_ON = False
    rcnn_cfg.MODEL.PROPOSAL_GENERATOR.NAME = "TwoSidedRPN"
    rcnn_cfg.MODEL.ROI_HEADS.NAME = "TwoSidedROIHeads"
    rcnn_cfg.MODEL.RPN.SKIP_PADDING = True
    rcnn_cfg.MODEL.RPN.LOW_QUALITY_MATCHES = "mmdetection"
    rcnn_cfg.MODEL.ROI_HEADS.LOW_QUALITY_MATCHES = "mmdetection"
    model = build_model(rcnn_cfg)
    inputs = []
    for size in ((64, 96), (33, 40)):
        truth = Instances(size)
        truth.gt_boxes, truth.gt_classes = (
            Boxes(torch.tensor([[3.0, 3, 22, 25]])),
            torch.tensor([2]),
        )
        inputs.append({"image": torch.zeros(3, *size), "instances": truth})
    with EventStorage():
        losses = model(inputs)
    assert all(loss.isfinite() for loss in losses.values()) and losses["loss_rpn_loc"] > 0
