"""Numbers and sizes of the objects of each class, and how well a config's anchors match them.

Shapes: M boxes, A anchors.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from .entries import AnnotationFile, sound_entries
from .findings import Finding
from .rules import has_usable_box

FAR, TOO_MANY = 0.4, 0.2  # IoU below which no anchor matches, and share of such boxes to report


class Anchors(NamedTuple):
    """Anchors of a config, in pixels of the resized image, and its test size.

    ``sizes`` and ``aspect_ratios`` are MODEL.ANCHOR_GENERATOR's, ``min_size`` and ``max_size``
    INPUT.MIN_SIZE_TEST and MAX_SIZE_TEST.
    """

    sizes: Sequence[Sequence[float]]
    aspect_ratios: Sequence[Sequence[float]]
    min_size: int
    max_size: int


class ClassFacts(NamedTuple):
    """Statistics of a class in a file.

    ``share`` is its share of the file's objects; ``side`` is the median of sqrt(width * height) in
    pixels; ``overlaps`` (M,) is each box's IoU with the best anchor at the same centre.
    """

    file: str
    name: str
    objects: int
    images: int
    share: float
    side: float
    overlaps: np.ndarray | None


def anchor_overlaps(boxes: np.ndarray, images: np.ndarray, anchors: Anchors) -> np.ndarray:
    """IoU of each box with the best anchor at the same centre.

    Args:
        boxes: (M, 2) width and height in pixels of the image.
        images: (M, 2) width and height of its image.
        anchors: anchors of a config.

    Returns:
        (M,) in 0 .. 1.
    """
    from detectron2.modeling.anchor_generator import DefaultAnchorGenerator  # brings torch

    generator = DefaultAnchorGenerator(
        sizes=anchors.sizes, aspect_ratios=anchors.aspect_ratios, strides=[1] * len(anchors.sizes)
    )
    cells = np.concatenate([cell.numpy() for cell in generator.cell_anchors])  # (A, 4)
    shapes = cells[:, 2:] - cells[:, :2]  # (A, 2)
    scale = np.ones(len(boxes))
    if anchors.min_size:  # 0 means no resizing
        scale = np.minimum(anchors.min_size / images.min(1), anchors.max_size / images.max(1))
    boxes = boxes * scale[:, None]
    best = np.zeros(len(boxes))
    for shape in shapes:  # one at a time: (M, A) would be large
        inside = np.minimum(boxes, shape).prod(1)
        best = np.maximum(best, inside / (boxes.prod(1) + shape.prod() - inside))
    return best


def describe_classes(files: list[AnnotationFile], anchors: Anchors | None) -> list[ClassFacts]:
    """Statistics of every class in every file, over the objects that can be trained on."""
    return [facts for file in files for facts in _describe(file, anchors)]


def _describe(file: AnnotationFile, anchors: Anchors | None) -> Iterator[ClassFacts]:
    images = {image["id"]: image for _, image in sound_entries(file, "images")}
    by_class: dict[float, list[dict]] = {c["id"]: [] for _, c in sound_entries(file, "categories")}
    for _, annotation in sound_entries(file, "annotations"):
        image = images.get(annotation["image_id"])
        known = image is not None and annotation["category_id"] in by_class
        if known and annotation.get("iscrowd") != 1 and has_usable_box(annotation, image):
            by_class[annotation["category_id"]].append(annotation)
    total = sum(map(len, by_class.values()))
    for _, category in sound_entries(file, "categories"):
        own = by_class[category["id"]]
        boxes = np.array([a["bbox"][2:] for a in own], float).reshape(-1, 2)
        inside = [images[a["image_id"]] for a in own]
        sizes = np.array([(i["width"], i["height"]) for i in inside], float).reshape(-1, 2)
        yield ClassFacts(
            file=file.json_file,
            name=category["name"],
            objects=len(own),
            images=len({a["image_id"] for a in own}),
            share=len(own) / max(1, total),
            side=float(np.median(np.sqrt(boxes.prod(1)))) if own else 0.0,
            overlaps=anchor_overlaps(boxes, sizes, anchors) if anchors else None,
        )


def check_anchors(classes: list[ClassFacts]) -> Iterator[Finding]:
    """Notes on classes that the anchors do not match."""
    for facts in classes:
        if facts.overlaps is None or not facts.objects:
            continue
        far = float((facts.overlaps < FAR).mean())
        if far > TOO_MANY:
            yield Finding(
                "anchors",
                facts.file,
                f"class {facts.name}",
                f"{far:.0%} of its boxes overlap no anchor with IoU {FAR}; change "
                "MODEL.ANCHOR_GENERATOR.SIZES or ASPECT_RATIOS, or INPUT.MIN_SIZE_TEST",
            )
