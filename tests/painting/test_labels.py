"""Places of labels: inside the image, off each other, beside their object."""

import numpy as np
import pytest
from PIL import Image

from resnest_d2.painting.labels import Label, _order, draw_labels, place_labels


def place(sizes, boxes, size=(640, 480), middle=None):
    places = place_labels(
        sizes,
        np.array(boxes),
        order=range(len(sizes)),
        middle=middle or [False] * len(sizes),
        size=size,
    )
    return [p and (*p, p[0] + w, p[1] + h) for p, (w, h) in zip(places, sizes, strict=True)]


def overlap(a, b):
    return min(a[2], b[2]) > max(a[0], b[0]) and min(a[3], b[3]) > max(a[1], b[1])


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([100, 100, 200, 200], (100, 85)),  # above, at the left
        ([100, 0, 200, 200], (100, 200)),  # below, where there is no room above
        ([100, 0, 200, 480], (100, 0)),  # inside
        ([0, 0, 640, 480], (0, 0)),
        ([100, 0, 150, 0], (150, 0)),  # beside an object without height, which it would hide
        ([0, 0, 40, 30], (0, 30)),  # below, as it would hide half inside
        ([620, 100, 640, 200], (580, 85)),  # shifted into the image
    ],
)
def test_a_single_label(box, expected):
    (found,) = place([(60, 15)], [box])
    assert found[:2] == expected


def test_a_label_in_the_middle():
    (found,) = place([(60, 15)], [[300, 200, 300, 200]], middle=[True])
    assert found[:2] == (270, 192)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("number", [10, 60, 200])
def test_labels_of_crowds_are_inside_and_apart(seed, number):
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, (600, 440), (number, 2))
    boxes = np.concatenate([low, np.minimum(low + rng.uniform(4, 150, low.shape), (640, 480))], 1)
    sizes = [(int(w), 13) for w in rng.integers(30, 90, number)]
    found = [p for p in place(sizes, boxes.round()) if p]
    assert len(found) >= min(number, 60) * 0.9
    for i, a in enumerate(found):
        assert 0 <= a[0] and 0 <= a[1] and a[2] <= 640 and a[3] <= 480
        assert not any(overlap(a, b) for b in found[:i])
    assert sum((a[2] - a[0]) * (a[3] - a[1]) for a in found) <= 0.25 * 640 * 480


def test_a_label_touches_its_object():
    boxes = [[100, 100, 140, 140], [105, 102, 150, 150], [90, 110, 130, 160]]
    for found, box in zip(place([(60, 15)] * 3, boxes), boxes, strict=True):
        assert overlap(found, np.array(box) + (-1, -1, 1, 1))


def test_no_object_is_hidden():
    """A small object above a large one would be below the large one's label."""
    boxes = [[100, 100, 300, 300], [102, 86, 118, 98]]
    label, _ = place([(60, 15), (60, 15)], boxes)
    assert not overlap(label, boxes[1])


def test_what_does_not_fit_is_left_out():
    assert place([(60, 15)], [[0, 0, 40, 40]], size=(40, 40)) == [None]
    assert place([(1, 15)], [[0, 0, 1, 1]], size=(1, 1)) == [None]


def test_each_name_comes_before_any_second_time():
    scores = [("cat", 0.9), ("cat", 0.95), ("dog", 0.5), ("dog", 0.6), ("cat", None)]
    labels = [Label(name, (0, 0, 0), np.zeros(4), score) for name, score in scores]
    assert _order(labels) == [1, 3, 0, 2, 4]


def heights(number, monkeypatch):
    """Heights of the labels of so many objects, with text of 40 pixels."""
    found = []

    def noted(sizes, boxes, **options):
        found.extend(height for _, height in sizes)
        return [None] * len(sizes)

    monkeypatch.setattr("resnest_d2.painting.labels.place_labels", noted)
    label = Label("elephant", (0, 0, 0), np.zeros(4))
    draw_labels(Image.new("RGB", (1000, 800)), [label] * number, 40)
    return set(found)


def test_text_of_crowds_is_smaller(monkeypatch):
    (few,), (many,), (most,) = (heights(n, monkeypatch) for n in (2, 20, 500))
    assert 40 < few < 55 and many < few
    assert most == pytest.approx(0.6 * few, abs=2)
    assert heights(0, monkeypatch) == set()
