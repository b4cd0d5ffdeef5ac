"""Leaves small images and small boxes out of the training, as mmdetection's data sets do.

Source: mmdetection 3.3, CocoDataset (``filter_cfg`` with min_size 32; boxes under 1 pixel).
"""

from detectron2.structures import BoxMode


def without_small(images: list[dict], *, min_image_size: int, min_box_size: float) -> list[dict]:
    """Images and annotations of at least the given sizes.

    An image stays when all its boxes go: it is background then.

    Args:
        images: detectron2's dicts; they are not changed.
        min_image_size: least side of an image, in pixels; one of unknown size stays.
        min_box_size: least side of a box, in pixels of the file.

    Returns:
        The images that are left.
    """
    large = [
        image
        for image in images
        if min(image.get("height", min_image_size), image.get("width", min_image_size))
        >= min_image_size
    ]
    if not min_box_size:
        return large
    return [
        {**image, "annotations": [a for a in image["annotations"] if _side(a) >= min_box_size]}
        if "annotations" in image
        else image
        for image in large
    ]


def _side(annotation: dict) -> float:
    return min(BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYWH_ABS)[2:])
