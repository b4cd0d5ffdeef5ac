"""Drawings of batches: colours, places, and truth of every kind."""

import numpy as np
import pytest
import torch
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints, PolygonMasks

from resnest_d2.painting.colors import color_of
from resnest_d2.report.batches import draw_batch

TOP, LEFT = 34, 14  # of the first image on the page


def image(*, channels=3, side=360, masks=None, keypoints=None):
    truth = Instances((side, side))
    truth.gt_boxes = Boxes(torch.tensor([[100.0, 100.0, 200.0, 220.0]]))
    truth.gt_classes = torch.tensor([1])
    if masks == "polygon":
        truth.gt_masks = PolygonMasks([[np.array([100.0, 100, 200, 100, 200, 220, 100, 220])]])
    if masks == "bitmask":
        mask = torch.zeros(1, side, side)
        mask[0, 100:220, 100:200] = 1
        truth.gt_masks = BitMasks(mask)
    if keypoints:
        truth.gt_keypoints = Keypoints(torch.tensor([[[150.0, 160, 2], [300.0, 300, 0]]]))
    pixels = torch.full((channels, side, side), 100, dtype=torch.uint8)
    return {"image": pixels, "instances": truth, "file_name": "folder/a.png"}


def drawn(images, order="BGR"):
    """Page of images as an array; a side of 1680 is drawn at its size."""
    page = draw_batch(images, order=order, names=["cat", "dog"], title="t")
    return np.asarray(page).astype(int)


def close(pixel, color, atol=3):
    return np.abs(np.array(pixel) - color).max() <= atol


def test_a_box_is_drawn_at_its_place_in_its_class_colour():
    page = drawn([image(side=1680)])
    line = page[TOP + 150, LEFT : LEFT + 1680]
    found = [x for x in range(1680) if close(line[x], color_of(1))]
    assert found == [98, 99, 100, 101, 198, 199, 200, 201]
    assert close(page[TOP + 150, LEFT + 150], [100] * 3)


@pytest.mark.parametrize("masks", ["polygon", "bitmask"])
def test_masks_are_shaded(masks):
    page = drawn([image(side=1680, masks=masks)])
    expected = 0.35 * np.array(color_of(1)) + 0.65 * 100
    assert close(page[TOP + 150, LEFT + 150], expected)
    assert close(page[TOP + 150, LEFT + 250], [100] * 3)


def test_labelled_keypoints_are_drawn():
    page = drawn([image(side=1680, keypoints=True)])
    assert close(page[TOP + 160, LEFT + 150], color_of(1))
    assert close(page[TOP + 300, LEFT + 300], [100] * 3)


@pytest.mark.parametrize(("order", "channels"), [("L", 1), ("RGB", 3), ("BGR", 3)])
def test_channels_are_those_of_the_config(order, channels):
    one = image(side=1680, channels=channels)
    one["image"][0] = 200
    expected = {"L": [200] * 3, "RGB": [200, 100, 100], "BGR": [100, 100, 200]}[order]
    assert close(drawn([one], order)[TOP + 9, LEFT + 900], expected)


def test_keypoints_are_connected():
    one = image(side=1680, keypoints=True)
    one["instances"].gt_keypoints.tensor[0, 1, 2] = 2
    page = draw_batch([one], order="BGR", names=[], title="", skeleton=[(0, 1)])
    assert close(page.getpixel((LEFT + 225, TOP + 230)), color_of(1))


def test_names_of_any_script_are_in_the_legend():
    """Two lines of the same height, which differ in their text alone."""
    first, second = (
        np.asarray(draw_batch([image(side=1680)], order="BGR", names=["a", name], title="t"))
        for name in ("斑马\n", "$x$")
    )
    assert first.shape == second.shape and tuple(first[-26, LEFT + 3]) == color_of(1)
    assert (first[-34:, LEFT + 16 :] != second[-34:, LEFT + 16 :]).any()


def test_small_images_are_enlarged_and_stand_side_by_side():
    empty = image(side=100)
    empty["instances"] = empty["instances"][:0]
    page = drawn([image(side=100), empty, image(side=50)])
    assert page.shape[1] == 2 * (400 + 14) + 14
    assert close(page[TOP + 9, LEFT + 9], [100] * 3) and close(page[TOP + 9, 9], [238] * 3)
    assert close(page[TOP + 9, LEFT + 414 + 9], [100] * 3)
