"""Drawings of predictions: names, scores, limits, and images of every kind."""

import numpy as np
import pytest
import torch
from detectron2.data.catalog import Metadata
from detectron2.structures import Boxes, Instances
from PIL import Image

from resnest_d2.inference import Prediction
from resnest_d2.inference.drawing import draw
from resnest_d2.inference.sources import open_source
from resnest_d2.painting import paint
from resnest_d2.painting.colors import color_of


def instances(boxes, classes, size=(80, 160), **fields):
    found = Instances(size)
    found.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    found.pred_classes = torch.tensor(classes, dtype=torch.long)
    found.scores = torch.full((len(classes),), 0.9)
    for name, value in fields.items():
        found.set(name, value)
    return found


def drawn(name, **options):
    found = instances([[20, 30, 90, 70]], [0])
    white = np.full((80, 160, 3), 255, np.uint8)
    return np.asarray(draw(white, found, Metadata(thing_classes=[name]), **options))


@pytest.mark.parametrize(
    "name", ["$$", "US$1 or US$5", "$x^2$", "a\\b_%s {0}", "斑马", "a\nb", "猫"]
)
def test_a_name_is_drawn_as_it_is(name):
    assert (drawn(name) != drawn("")).any()


def test_signs_of_a_formula_are_drawn():
    assert (drawn("$x^2$") != drawn("x2")).any()


def test_a_class_without_a_name_has_its_number():
    number = drawn("0")
    assert (drawn("") == number).all() and (drawn(" ") == number).all()


def test_scores_can_be_left_out():
    found = instances([[20, 30, 90, 70]], [0])
    del found._fields["scores"]
    white, names = np.full((80, 160, 3), 255, np.uint8), Metadata(thing_classes=["cat"])
    assert (drawn("cat", scores=False) == np.asarray(draw(white, found, names))).all()
    assert (drawn("cat") != drawn("cat", scores=False)).any()


def test_a_class_has_one_colour_in_every_drawing():
    boxes = [[5, 5, 30, 60], [60, 5, 90, 60], [110, 5, 140, 60]]
    black = np.zeros((80, 160, 3), np.uint8)
    for classes in ([2, 0, 2], [0, 2, 7]):
        image = np.asarray(draw(black, instances(boxes, classes), Metadata()))
        for (left, *_), number in zip(boxes, classes, strict=True):
            assert tuple(image[50, left]) == color_of(number)


@pytest.mark.parametrize(
    ("size", "limits", "scale", "expected"),
    [
        ((80, 160), (12_800, 160), 1.0, (80, 160)),
        ((80, 160), (3_200, 999), 1.0, (40, 80)),
        ((80, 160), (99_999, 40), 1.0, (20, 40)),
        ((80, 160), (3_200, 999), 2.0, (40, 80)),
        ((80, 160), (51_200, 240), 4.0, (120, 240)),
        ((2, 160), (99_999, 40), 1.0, (1, 40)),
    ],
)
def test_a_drawing_is_bounded(size, limits, scale, expected, monkeypatch):
    monkeypatch.setattr(paint, "LARGEST", limits[0])
    monkeypatch.setattr(paint, "LONGEST", limits[1])
    found = instances([], [], size)
    image = draw(np.zeros((*size, 3), np.uint8), found, Metadata(name="none"), scale=scale)
    assert image.size[::-1] == expected


def prediction(path, boxes, size, masks=None):
    (image,) = open_source(path).images
    found = instances(boxes, [0] * len(boxes), size)
    if masks is not None:
        found.pred_masks = masks
    return Prediction(image, found, Metadata(thing_classes=["cat"]))


def test_images_of_one_channel(tmp_path):
    Image.new("L", (60, 40), 77).save(tmp_path / "a.png")
    image = np.asarray(prediction(tmp_path / "a.png", [[10, 10, 50, 35]], (40, 60)).draw())
    assert image.shape == (40, 60, 3) and tuple(image[20, 10]) == color_of(0)
    assert tuple(image[20, 30]) == (77, 77, 77)


def test_an_image_of_one_pixel(tmp_path):
    Image.new("RGB", (1, 1), (9, 9, 9)).save(tmp_path / "a.png")
    one = prediction(tmp_path / "a.png", [[0, 0, 1, 1]], (1, 1), torch.ones(1, 1, 1).bool())
    assert one.draw().size == (1, 1) and one.draw(scale=3).size == (3, 3)
    nothing = prediction(tmp_path / "a.png", [], (1, 1), torch.ones(0, 1, 1).bool())
    assert nothing.draw().getpixel((0, 0)) == (9, 9, 9)


def test_masks_lie_on_a_rotated_image(tmp_path):
    """The file has its image on its side; EXIF's orientation says so."""
    stored = Image.new("RGB", (60, 40))
    stored.paste((200, 0, 0), (30, 0, 60, 40))  # the lower half of what is seen
    exif = Image.Exif()
    exif[0x0112] = 6
    stored.save(tmp_path / "a.png", exif=exif)
    masks = torch.zeros(1, 60, 40, dtype=torch.bool)
    masks[0, 30:] = True
    image = np.asarray(prediction(tmp_path / "a.png", [[0, 30, 40, 60]], (60, 40), masks).draw())
    assert image.shape == (60, 40, 3)
    red = 0.35 * np.array(color_of(0)) + 0.65 * np.array([200, 0, 0])
    assert np.abs(image[52, 20] - red).max() <= 1 and not image[5, 30].any()


def test_segments_of_a_panoptic_detector():
    segments = torch.zeros(80, 160, dtype=torch.int32)
    segments[:, 80:], segments[20:60, 100:140] = 4, 7
    described = [
        {"id": 4, "isthing": False, "category_id": 1},
        {"id": 7, "isthing": True, "category_id": 2, "score": 0.9},
        {"id": 9, "isthing": True, "category_id": 0, "score": 0.9},  # hidden by others
    ]
    names = Metadata(
        thing_classes=["a", "b", "c"],
        stuff_classes=["things", "sky"],
        stuff_colors=[(0, 0, 0), (1, 200, 3)],
    )
    grey = np.full((80, 160, 3), 100, np.uint8)
    nothing = instances([], [])
    image = np.asarray(draw(grey, nothing, names, panoptic=(segments, described)))
    assert tuple(image[25, 100]) == color_of(2) and tuple(image[75, 80]) == (1, 200, 3)
    assert tuple(image[10, 40]) == (100, 100, 100)
    assert np.abs(image[70, 150] - (0.35 * np.array([1, 200, 3]) + 65)).max() <= 1
    plain = Metadata(thing_classes=["a", "b", "c"], stuff_classes=["things", "sky"])
    image = np.asarray(draw(grey, nothing, plain, panoptic=(segments, described)))
    assert tuple(image[75, 80]) == color_of(3 + 1)
