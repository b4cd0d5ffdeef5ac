"""Anchors fitted to boxes: recall as on detectron2's grid, and the sizes that data is made of."""

import numpy as np
import pytest
import torch
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.structures import Boxes, BoxMode, pairwise_iou

from resnest_d2.data.anchors import (
    AnchorGrid,
    LevelAnchors,
    ResizedBoxes,
    best_overlaps,
    cluster,
    find_anchors,
    resize_boxes,
)

GRID = AnchorGrid((4, 8, 16, 32, 64), 0.0, 32)
RATIOS = [[0.5, 1.0, 2.0]] * 5
COCOS = LevelAnchors([[32], [64], [128], [256], [512]], RATIOS)


def boxes_of(sizes, *, image=(640, 480), ratio=1.0, seed=0):
    """One box of each size and ratio (height to width) at a random place inside its image."""
    sizes, generator = np.array(sizes, float), np.random.default_rng(seed)
    sides = np.stack([sizes / ratio**0.5, sizes * ratio**0.5], 1)
    first = generator.random((len(sizes), 2)) * (np.array(image) - sides).clip(0)
    images = np.broadcast_to(np.array(image), sides.shape)
    return ResizedBoxes(np.concatenate([first, first + sides], 1), images)


@pytest.mark.parametrize("offset", [0.0, 0.5])
@pytest.mark.parametrize("size", [(70, 45), (64, 96)])
def test_overlaps_are_those_of_every_anchor_of_detectron2(size, offset):
    random = np.random.default_rng(1)
    ends = np.sort(random.random((60, 2, 2)) * size, axis=1)  # (M, end, axis)
    corners = ends.reshape(60, 4)
    anchors = LevelAnchors([[6, 9], [20, 31]], [[0.4, 1.0], [1.0, 3.0]])
    generator = DefaultAnchorGenerator(
        sizes=anchors.sizes, aspect_ratios=anchors.ratios, strides=[8, 64], offset=offset
    )
    # The image padded to a multiple of 32, as the backbone gets it; a map of stride 64 rounds up.
    width, height = (-(-side // 32) * 32 for side in size)
    maps = [torch.zeros(1, 1, -(-height // s), -(-width // s)) for s in (8, 64)]
    every = Boxes.cat(generator(maps))
    expected = pairwise_iou(Boxes(torch.tensor(corners, dtype=torch.float32)), every).max(1)[0]
    boxes = ResizedBoxes(corners, np.broadcast_to(np.array(size), (60, 2)))
    ours = best_overlaps(boxes, anchors, AnchorGrid([8, 64], offset, 32))
    np.testing.assert_allclose(ours, expected.numpy(), atol=1e-5)
    assert expected.max() > 0.5 > expected.min()


def test_boxes_are_those_that_training_sees():
    objects = [
        {"bbox": [10, 20, 30, 40], "bbox_mode": BoxMode.XYWH_ABS},
        {"bbox": [90, 0, 130, 50], "bbox_mode": BoxMode.XYXY_ABS, "iscrowd": 0},  # to the border
        {"bbox": [0, 0, 9, 9], "bbox_mode": BoxMode.XYWH_ABS, "iscrowd": 1},
        {"bbox": [120, 0, 9, 9], "bbox_mode": BoxMode.XYWH_ABS},  # outside
    ]
    records = [
        {"height": 50, "width": 100, "annotations": objects},
        {"height": 50, "width": 100},
        {"height": 50, "width": 100, "annotations": []},
    ]
    boxes = resize_boxes(records, [100, 0], 150)  # 100 x 200 is limited to 75 x 150
    rows = zip(boxes.images.tolist(), boxes.corners.tolist(), strict=True)
    assert sorted(rows) == [
        ([100, 50], [10, 20, 40, 50]),
        ([100, 50], [90, 0, 100, 50]),
        ([150, 75], [15, 30, 60, 75]),
        ([150, 75], [135, 0, 150, 75]),
    ]


def test_sizes_that_the_data_is_made_of_are_found():
    known = [10.0, 30.0, 50.0, 120.0, 300.0]
    found = find_anchors(boxes_of(known * 40), COCOS, GRID)
    assert [size for level in found.anchors.sizes for size in level] == known
    assert 1.0 in found.anchors.ratios[0] and found.recall == 1.0 > found.before


def test_shapes_that_the_data_is_made_of_are_found():
    parts = [boxes_of([48.0] * 50, ratio=ratio, seed=i) for i, ratio in enumerate((0.2, 0.7, 4))]
    boxes = ResizedBoxes(*(np.concatenate(part) for part in zip(*parts, strict=True)))
    found = find_anchors(boxes, COCOS, GRID)
    assert found.anchors.ratios == [[0.2, 0.7, 4.0]] * 5 and [48.0] in found.anchors.sizes
    assert found.recall == 1.0 and found.before < 0.7


@pytest.mark.parametrize(
    ("sizes", "image"),
    [
        ([20.0], (640, 480)),
        ([17.0, 90.0], (640, 480)),
        ([50.0] * 30, (640, 480)),
        ([3.0] * 5, (640, 480)),
        ([2500.0, 2900.0], (3000, 3000)),
    ],
    ids=["one", "two", "identical", "tiny", "huge"],
)
def test_few_or_equal_boxes_give_as_many_anchors_of_growing_size(sizes, image):
    found = find_anchors(boxes_of(sizes, image=image), COCOS, GRID)
    assert [len(level) for level in found.anchors.sizes] == [1] * 5
    flat = [size for level in found.anchors.sizes for size in level]
    assert np.all(np.diff(flat) > 0) and flat[0] > 0
    assert all(min(abs(other / size - 1) for other in flat) < 0.1 for size in sizes)
    assert found.anchors.ratios[0] == sorted(found.anchors.ratios[0])
    assert 1.0 in found.anchors.ratios[0] and len(found.anchors.ratios[0]) == 3
    assert found.recall >= found.before


def test_anchors_are_given_to_levels_whose_grid_is_fine_enough():
    """Anchors of 40 pixels in the coarsest level alone would miss the boxes between its cells."""
    boxes = boxes_of([40.0] * 200)
    found = find_anchors(boxes, COCOS, GRID)
    assert found.recall == 1.0 and [40.0] in found.anchors.sizes[:3]
    only = LevelAnchors([[1], [2], [3], [4], [40]], RATIOS)
    assert (best_overlaps(boxes, only, GRID) >= 0.5).mean() < 0.6


def test_several_sizes_a_level_stay_several():
    before = LevelAnchors([[8, 10, 13]] * 2, [[1.0]] * 2)
    grid = AnchorGrid((4, 8), 0.0, 8)
    found = find_anchors(boxes_of(np.geomspace(8, 60, 300)), before, grid)
    assert [len(level) for level in found.anchors.sizes] == [3, 3]
    assert np.all(np.diff(np.ravel(found.anchors.sizes)) > 0) and found.recall > found.before
    one = find_anchors(
        boxes_of(np.geomspace(20, 200, 300)), LevelAnchors([[32]], [[1.0]]), AnchorGrid((16,))
    )
    assert len(one.anchors.sizes[0]) == 1


def test_the_same_boxes_give_the_same_anchors():
    boxes = boxes_of(np.random.default_rng(3).lognormal(3.5, 0.6, 500))
    turned = ResizedBoxes(boxes.corners[::-1], boxes.images[::-1])
    assert find_anchors(boxes, COCOS, GRID) == find_anchors(turned, COCOS, GRID)


def test_centres_of_clusters():
    values = np.array([1.0, 1.2, 5.0, 5.4, 5.5, 9.0])
    assert cluster(values, 3) == pytest.approx([1.1, 5.3, 9.0])
    assert cluster(values[::-1], 1) == pytest.approx([values.mean()])
    assert cluster(np.array([2.0, 2.0, 7.0]), 3).tolist() == [2.0, 7.0]
    centres = cluster(np.random.default_rng(0).normal(size=1000), 5)
    assert len(centres) == 5 and np.all(np.diff(centres) > 0)
