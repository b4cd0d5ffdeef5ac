"""Kinds of mistakes on boxes whose overlaps are known."""

import pytest
from pycocotools.coco import COCO

from resnest_d2.report.matching import match_images
from resnest_d2.report.mistakes import judge, mistakes_text

BOX = [0, 0, 10, 10]
CAT, DOG = 1, 2


def half(iou):
    """A box whose overlap with BOX is ``iou``: a slice of it."""
    return [0, 0, 10, 10 * iou]


def judged(truth, found, crowds=()):
    """The image of boxes by class, judged at a score of 0.5."""
    api = COCO()
    api.dataset = {
        "images": [{"id": 1, "height": 50, "width": 50}],
        "categories": [{"id": CAT, "name": "cat"}, {"id": DOG, "name": "dog"}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": c, "bbox": b, "iscrowd": int(i - 1 in crowds)}
            for i, (c, b) in enumerate(truth, 1)
        ],
    }
    api.createIndex()
    detections = [{"category_id": c, "bbox": b, "score": s} for c, b, s in found]
    (matched,) = match_images(api, {1: detections}, "bbox")
    return judge(matched, 0.5)


@pytest.mark.parametrize(
    ("found", "truth_kinds", "found_kinds", "text"),
    [
        ([], ["missed"], [], "1 missed"),
        ([(CAT, BOX, 0.4)], ["missed"], [], "1 missed"),
        ([(CAT, half(0.5), 0.5)], ["right"], ["right"], "no mistakes"),
        ([(DOG, half(0.5), 0.9)], ["confused"], ["confused"], "1 confused"),
        ([(DOG, half(0.4), 0.9)], ["missed"], ["false"], "1 missed, 1 false"),
        ([(CAT, half(0.4), 0.9)], ["poor"], ["poor"], "1 poorly located"),
        ([(CAT, half(0.1), 0.9)], ["poor"], ["poor"], "1 poorly located"),
        ([(CAT, half(0.09), 0.9)], ["missed"], ["false"], "1 missed, 1 false"),
        ([(CAT, BOX, 0.9), (CAT, half(0.4), 0.8)], ["right"], ["right", "false"], "1 false"),
        ([(CAT, half(0.4), 0.9), (DOG, BOX, 0.8)], ["confused"], ["false", "confused"], None),
    ],
)
def test_kinds(found, truth_kinds, found_kinds, text):
    image = judged([(CAT, BOX)], found)
    assert (image.truth, image.found) == (truth_kinds, found_kinds)
    assert text is None or mistakes_text(image.mistakes) == text


def test_crowds_are_no_mistakes():
    image = judged([(CAT, BOX)], [(CAT, BOX, 0.9), (CAT, half(0.6), 0.8)], crowds=[0])
    assert (image.truth, image.found) == (["crowd"], ["crowd", "crowd"])
    assert not image.mistakes and not image.mistakes_by_class


def test_an_annotation_is_given_to_one_detection():
    image = judged([(CAT, BOX)], [(CAT, half(0.3), 0.9), (CAT, half(0.4), 0.8)])
    assert image.found == ["poor", "false"] and image.near.tolist() == [0, -1]


def test_a_confusion_counts_for_both_classes_and_once_in_the_image():
    far = [30, 30, 10, 10]
    image = judged([(CAT, BOX), (DOG, far)], [(DOG, BOX, 0.9), (CAT, [30, 30, 10, 4], 0.8)])
    assert image.mistakes == {"confused": 1, "missed": 1, "false": 1}
    assert image.mistakes_by_class == {
        CAT: {"confused": 1, "false": 1},
        DOG: {"confused": 1, "missed": 1},
    }
