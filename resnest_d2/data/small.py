"""Filters of small images and boxes for training, as in mmdetection's datasets.

Source: mmdetection 3.3, CocoDataset (``filter_cfg`` with min_size 32; boxes under 1 pixel).
"""

from detectron2.structures import BoxMode


def without_small(images: list[dict], *, min_image_size: int, min_box_size: float) -> list[dict]:
    """Removes images and annotations below the given sizes.

    An image without remaining boxes is kept as background.

    Args:
        images: images in detectron2's format; they are not changed.
        min_image_size: shortest side of an image in pixels; images of unknown size are kept.
        min_box_size: shortest side of a box, in pixels of the file.

    Returns:
        The remaining images.
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
