"""Masks as RLE, and their outlines."""

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.structures import Instances

from resnest_d2.inference.masks import PackedMasks, outlines


@pytest.fixture
def masks():
    """Blobs of a part of 20 x 30 pixels; one is empty, one full."""
    found = torch.from_numpy(np.random.default_rng(0).random((5, 20, 30)) > 0.5)
    found[1], found[2] = False, True
    found[3, :, :9] = False
    return found


def test_masks_of_a_part_are_in_their_place(masks):
    packed = PackedMasks.place(masks, (7, 11), (40, 60))
    expected = np.zeros((5, 40, 60), dtype=bool)
    expected[:, 7:27, 11:41] = masks.numpy()
    assert np.array_equal(packed.dense(), expected)
    for rle, mask in zip(packed.rles, expected, strict=True):
        theirs = mask_util.encode(np.asfortranarray(mask, np.uint8))
        assert rle["size"] == [40, 60] and rle["counts"] == theirs["counts"]


def test_instances_take_them_for_a_tensor(masks):
    whole = Instances((20, 30), pred_masks=masks)
    packed = Instances((20, 30), pred_masks=PackedMasks.place(masks, (0, 0), (20, 30)))
    for item in (slice(1, 3), torch.tensor([4, 0]), torch.tensor([True, False, False, True, True])):
        found = packed[item].pred_masks
        assert np.array_equal(found.dense(), whole[item].pred_masks.numpy())
    both = Instances.cat([packed, packed[:2]]).pred_masks
    assert len(both) == 7 and np.array_equal(both.dense()[5:], masks[:2].numpy())
    assert packed[:0].pred_masks.dense().shape == (0, 20, 30)


def test_300_masks_of_a_large_image_are_small():
    masks = torch.ones(300, 40, 40, dtype=torch.bool)
    packed = PackedMasks.place(masks, (1000, 2000), (4000, 4000))
    assert sum(len(rle["counts"]) for rle in packed.rles) < 300 * 200
    assert np.asarray(next(iter(packed))).sum() == 1600


def test_the_outline_of_a_rectangle_is_its_corners():
    mask = np.zeros((40, 60), dtype=bool)
    mask[5:35, 10:30] = True
    (polygon,) = outlines(mask)
    corners = {tuple(polygon[i : i + 2]) for i in range(0, 8, 2)}
    assert len(polygon) == 8 and corners == {(10, 5), (30, 5), (30, 35), (10, 35)}
    mask[0, 0] = mask[39, 50:60] = True
    assert len(outlines(mask)) == 3 and outlines(np.zeros((4, 4), bool)) == []


def test_outlines_drawn_again_are_the_mask():
    y, x = np.mgrid[:200, :300]
    mask = ((x - 150) / 120) ** 2 + ((y - 90) / 60) ** 2 < 1
    mask |= (abs(x - 40) < 25) & (abs(y - 170) < 20)
    polygons = outlines(mask)
    again = mask_util.decode(mask_util.merge(mask_util.frPyObjects(polygons, 200, 300)))
    assert len(polygons) == 2 and sum(map(len, polygons)) < 90
    assert (mask & again).sum() / (mask | again).sum() > 0.98
    assert abs(int(again.sum()) - int(mask.sum())) < 0.01 * mask.sum()
