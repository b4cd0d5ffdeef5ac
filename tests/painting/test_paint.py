"""Drawings: pixels of lines, masks, keypoints and labels at their places, in their colours."""

import numpy as np
import pytest

from resnest_d2.painting import paint as painting
from resnest_d2.painting.colors import color_of
from resnest_d2.painting.labels import place_labels
from resnest_d2.painting.paint import Item, paint, text_size

BLUE, RED = color_of(0), color_of(1)
GREY = 200


def grey(height=300, width=400):
    return np.full((height, width, 3), GREY, np.uint8)


def item(box=(100, 100, 200, 220), **options):
    return Item(**{"name": "cat", "color": BLUE, "box": np.array(box, float), **options})


def painted(items, pixels=None, **options):
    return np.asarray(paint(grey() if pixels is None else pixels, items, **options)).astype(int)


def has(pixel, color, atol=0):
    return np.abs(np.array(pixel) - color).max() <= atol


def test_a_box_is_on_its_edges_with_a_dark_line_around_it():
    line = painted([item()])[160]
    assert [x for x in range(400) if has(line[x], BLUE)] == [99, 100, 199, 200]
    assert [x for x in range(400) if has(line[x], [GREY // 2] * 3)] == [98, 101, 198, 201]
    assert has(line[150], [GREY] * 3)


@pytest.mark.parametrize("box", [(0, 0, 400, 300), (-50, -9, 1e9, np.inf), (-np.inf, -1, 400, 300)])
def test_a_box_at_the_border_is_visible(box):
    drawn = painted([item(box)])
    assert has(drawn[150, 0], BLUE) and has(drawn[150, -1], BLUE)
    assert has(drawn[-1, 200], BLUE) and has(drawn[0, 399], BLUE)


@pytest.mark.parametrize(
    "box", [(50, 60, 50, 60), (400, 300, 400, 300), (0, 0, 0, 0), [np.nan] * 4]
)
def test_objects_without_area_are_points(box):
    drawn = painted([item(box, mask=np.zeros((300, 400), bool))])
    assert 0 < (drawn == BLUE).all(2).sum() < 6000


def mask(rows, columns, size=(300, 400)):
    full = np.zeros(size, bool)
    full[rows, columns] = True
    return full


def test_a_mask_is_translucent_below_its_outline():
    drawn = painted([item(mask=mask(slice(120, 200), slice(110, 190)))])
    expected = 0.35 * np.array(BLUE) + 0.65 * GREY
    assert has(drawn[160, 150], expected, 1) and has(drawn[110, 150], [GREY] * 3)
    assert has(drawn[160, 110], BLUE) and has(drawn[120, 150], BLUE) and has(drawn[160, 189], BLUE)


def test_holes_of_a_mask_are_not_filled():
    full = mask(slice(100, 220), slice(100, 220))
    full[140:180, 140:180] = False
    drawn = painted([item(mask=full)])
    assert has(drawn[160, 160], [GREY] * 3) and has(drawn[139, 160], BLUE)


def test_small_masks_are_above_large_ones():
    small = item(color=RED, mask=mask(slice(140, 180), slice(140, 180)))
    large = item(mask=mask(slice(100, 220), slice(100, 220)))
    for items in ([small, large], [large, small]):
        assert has(painted(items)[160, 160], 0.35 * np.array(RED) + 0.65 * GREY, 1)


@pytest.mark.parametrize("scale", [0.5, 2.0, 4.0])
def test_what_is_scaled_stays_on_its_place(scale):
    pixels = np.zeros((300, 400, 3), np.uint8)
    pixels[120:200, 110:190] = GREY
    one = item((110, 120, 190, 200), mask=mask(slice(120, 200), slice(110, 190)))
    drawn = painted([one._replace(points={0: (150, 160)})], pixels, scale=scale)
    assert drawn.shape == (300 * scale, 400 * scale, 3)
    at = lambda y, x: drawn[round(y * scale), round(x * scale)]  # noqa: E731
    assert has(at(160, 150), BLUE) and has(at(212, 104), [0] * 3) and has(at(160, 197), [0] * 3)
    assert has(at(190, 170), 0.35 * np.array(BLUE) + 0.65 * GREY, 2)
    assert has(at(160, 110), BLUE, 2) and has(at(199.9, 150), BLUE, 2)


def test_the_outline_of_an_enlarged_mask_is_smooth():
    rows, columns = np.mgrid[:60, :60]
    disc = (rows - 30) ** 2 + (columns - 30) ** 2 < 20**2
    (outline,) = painting.outlines_of(disc, (8.0, 8.0))
    radius = np.hypot(*(outline[:, 0] - 30.5 * 8 + 0.5).T) / 8
    assert radius.max() - radius.min() < 0.6 and abs(radius.mean() - 19.75) < 0.3


@pytest.mark.parametrize("number", [1, 4, 9])
def test_tiny_masks_are_outlined(number):
    full = np.zeros((40, 40), bool)
    full[20, 20 : 20 + number] = True
    (outline,) = painting.outlines_of(full, (5.0, 5.0))
    assert outline[:, 0].max(0) == pytest.approx([(20 + number) * 5 - 1, 104], abs=2)
    assert outline[:, 0].min(0) == pytest.approx([100, 100], abs=2)
    assert painting.outlines_of(np.zeros((40, 40), bool), (5.0, 5.0)) == []


def test_keypoints_and_their_skeleton():
    points = {0: (120, 120), 1: (180, 120), 3: (150, 200)}
    drawn = painted([item(points=points)], skeleton=[(0, 1), (1, 2), (2, 3)])
    for x, y in points.values():
        assert has(drawn[y, x], BLUE)
    assert has(drawn[120, 150], BLUE) and has(drawn[116, 120], [255] * 3, 60)
    assert has(drawn[160, 165], [GREY] * 3)  # 2 is not visible, so nothing leads to it
    assert has(painted([item(points=points)])[120, 150], [GREY] * 3)


def test_keypoints_far_outside():
    points = {0: (1e30, -1e30), 1: (np.nan, np.inf), 2: (150, 160)}
    assert has(painted([item(points=points)], skeleton=[(0, 1)])[160, 150], BLUE)


def test_a_label_is_above_its_box_in_its_colour_with_readable_ink():
    drawn = painted([item(score=0.97)])
    label = drawn[85:99, 100:150]
    assert (label == BLUE).all(2).mean() > 0.5 and (label.max(2) < 60).any()
    without = painted([item()])
    assert (without[85:99] == BLUE).all(2).sum() < (drawn[85:99] == BLUE).all(2).sum()


def test_a_background_segment_has_its_label_in_the_middle_and_no_box():
    one = item((200, 150, 200, 150), mask=np.ones((300, 400), bool), region=True)
    drawn = painted([one])
    assert (drawn[145:156, 185:216] == BLUE).all(2).sum() > 100
    assert has(drawn[100, 100], 0.35 * np.array(BLUE) + 0.65 * GREY, 1)


def test_labels_of_a_crowd_are_on_the_image_and_apart(monkeypatch):
    """The boxes of the labels, as they are drawn."""
    found = []

    def noted(sizes, boxes, **options):
        places = place_labels(sizes, boxes, **options)
        found.extend((*p, p[0] + w, p[1] + h) for p, (w, h) in zip(places, sizes, strict=True) if p)
        return places

    monkeypatch.setattr("resnest_d2.painting.labels.place_labels", noted)
    rng = np.random.default_rng(0)
    items = []
    for n in range(200):
        x, y = rng.uniform(0, 600), rng.uniform(0, 440)
        items.append(item((x, y, x + 40, y + 40), color=color_of(n), name=f"class {n}", score=0.9))
    drawn = painted(items, grey(480, 640))
    assert len(found) > 60
    for i, (x0, y0, x1, y1) in enumerate(found):
        assert 0 <= x0 < x1 <= 640 and 0 <= y0 < y1 <= 480
        assert not any(x0 < c and a < x1 and y0 < d and b < y1 for a, b, c, d in found[:i])
        corner = drawn[y0, x0]  # of a ground that no other label or line covers
        assert any(has(corner, color_of(n)) for n in range(200))


@pytest.mark.parametrize(
    ("size", "expected"), [((640, 480), 12), ((1920, 1080), 26), ((4000, 3000), 63), ((9, 9), 12)]
)
def test_text_follows_the_size_of_the_drawing(size, expected):
    assert text_size(size) == expected


def test_the_image_is_not_changed():
    pixels = grey()
    paint(pixels, [item(mask=mask(slice(100, 200), slice(100, 200)))])
    assert (pixels == GREY).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (300, 1), (2, 2)])
def test_images_of_single_pixels(size):
    drawn = painted([item((0, 0, *size[::-1]), mask=np.ones(size, bool))], grey(*size))
    assert drawn.shape == (*size, 3) and has(drawn[0, 0], BLUE)
