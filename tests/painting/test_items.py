"""Items of detections, annotations and segments."""

import numpy as np
import torch
from detectron2.data.catalog import Metadata
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints, PolygonMasks

from resnest_d2.painting.colors import color_of
from resnest_d2.painting.items import items_of, name_of, segments_of, skeleton_of


def fields(kind, **others):
    found = Instances((40, 60))
    found.set(f"{kind}_boxes", Boxes(torch.tensor([[1.0, 2, 30, 40], [5, 6, 7, 8]])))
    found.set(f"{kind}_classes", torch.tensor([1, 0]))
    for name, value in others.items():
        found.set(name if name == "scores" else f"{kind}_{name}", value)
    return found


def test_detections():
    masks = torch.zeros(2, 40, 60, dtype=torch.bool)
    masks[0, 3, 4] = True
    found = fields("pred", scores=torch.tensor([0.5, 0.75]), masks=masks)
    first, second = items_of(found, ["cat", "dog"])
    assert (first.name, first.color, first.score) == ("dog", color_of(1), 0.5)
    assert (second.name, second.color, second.score) == ("cat", color_of(0), 0.75)
    assert first.box.tolist() == [1, 2, 30, 40] and np.argwhere(first.mask).tolist() == [[3, 4]]
    assert [item.score for item in items_of(found, None, scores=False)] == [None, None]
    assert items_of(found[:0], None) == []


def test_annotations():
    square = np.array([5.0, 6, 9, 6, 9, 10, 5, 10])
    polygons = PolygonMasks([[square, square + 20], []])
    first, second = items_of(fields("gt", masks=polygons), ["cat"])
    assert (first.name, second.name, first.score) == ("1", "cat", None)
    assert first.mask.sum() == 32 and first.mask[6:10, 5:9].all() and first.mask[26:30, 25:29].all()
    assert second.mask.shape == (40, 60) and not second.mask.any()
    bits = BitMasks(torch.ones(2, 40, 60))
    assert items_of(fields("gt", masks=bits), None)[0].mask.dtype == bool


def test_keypoints_are_drawn_where_they_are_visible():
    found = torch.tensor([[[1.0, 2, 0.9], [3, 4, 0.01], [5, 6, 0.1]]] * 2)
    item = items_of(fields("pred", keypoints=found), None)[0]
    assert item.points == {0: (1, 2), 2: (5, 6)}
    truth = Keypoints(torch.tensor([[[1.0, 2, 0], [3, 4, 1], [5, 6, 2]]] * 2))
    assert items_of(fields("gt", keypoints=truth), None)[1].points == {1: (3, 4), 2: (5, 6)}


def test_names():
    assert [name_of(n, ["cat", "", " "]) for n in range(4)] == ["cat", "1", "2", "3"]
    assert name_of(0, None) == "0"


def test_the_skeleton_of_known_keypoints():
    metadata = Metadata(
        keypoint_names=["a", "b", "c"],
        keypoint_connection_rules=[("c", "a", (1, 2, 3)), ("a", "other", (1, 2, 3))],
    )
    assert skeleton_of(metadata) == [(2, 0)] and skeleton_of(Metadata()) == []


def test_segments():
    segments = torch.zeros(40, 60, dtype=torch.int32)
    segments[:, 20:], segments[5:9, 2:7] = 3, 8
    described = [
        {"id": 3, "isthing": False, "category_id": 0},
        {"id": 8, "isthing": True, "category_id": 1, "score": 0.5},
        {"id": 9, "isthing": True, "category_id": 1},
    ]
    metadata = Metadata(thing_classes=["cat", "dog"], stuff_classes=["sky"])
    sky, dog = segments_of(segments, described, metadata)
    assert (sky.name, sky.region, sky.score, sky.color) == ("sky", True, None, color_of(2))
    assert (dog.name, dog.region, dog.score, dog.color) == ("dog", False, 0.5, color_of(1))
    assert dog.box.tolist() == [2, 5, 7, 9] and dog.mask.sum() == 20
    x, y, *_ = sky.box
    assert abs(y - 19.5) < 2 and 36 <= x <= 43  # the middle of its 40 columns
    assert segments_of(segments, described, metadata, scores=False)[1].score is None
