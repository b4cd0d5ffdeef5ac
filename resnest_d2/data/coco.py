"""One's own data in COCO format: read once and checked, then registered with detectron2.

Format: https://cocodataset.org/#format-data. The pictures and annotations are loaded by detectron2;
here stands what it would only find hours later, or never say.
"""

import json
import logging
import os
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json

SHOWN = 10  # findings in one error message


class CocoFacts(NamedTuple):
    """What an annotation file says of its data set; classes in the order of their ids.

    ``mask_format`` is detectron2's INPUT.MASK_FORMAT ("polygon" or "bitmask", which takes RLE), or
    "" when annotations without a mask are among them.
    """

    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    mask_format: str
    num_annotations: int


def read_coco(json_file: str, image_root: str) -> CocoFacts:
    """Read and check an annotation file.

    Args:
        json_file: path of the file.
        image_root: folder of its pictures.

    Returns:
        What the file says; read again only when the file has changed.

    Raises:
        FileNotFoundError: no such file or folder.
        ValueError: not COCO JSON, or entries that contradict each other; up to ten are named.
    """
    for path, what in ((json_file, "annotation file"), (image_root, "picture folder")):
        if not os.path.exists(path):
            raise FileNotFoundError(f"The {what} {path} does not exist; correct DATASETS.COCO.")
    return _read(json_file, image_root, os.stat(json_file).st_mtime_ns)


@lru_cache(maxsize=16)
def _read(json_file: str, image_root: str, mtime: int) -> CocoFacts:
    del mtime  # part of the cache's key
    try:
        with open(json_file, encoding="utf-8") as file:
            data = json.load(file)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{json_file} is not JSON: {error}.") from error
    missing = [k for k in ("images", "categories") if not isinstance(_get(data, k), list)]
    if missing:
        raise ValueError(f"{json_file} is not in COCO format: it has no list {missing}.")
    findings = list(_find_errors(data, image_root))
    if findings:
        more = f"\n  ... and {len(findings) - SHOWN} more" if len(findings) > SHOWN else ""
        raise ValueError(
            f"{json_file} cannot be trained or evaluated on as it is:\n  "
            + "\n  ".join(findings[:SHOWN])
            + more
        )
    annotations = data.get("annotations", [])
    _warn_of_boxes(data, json_file)
    categories = sorted(data["categories"], key=lambda category: category["id"])
    kinds = {type(annotation.get("segmentation") or None) for annotation in annotations}
    return CocoFacts(
        classes=tuple(category["name"] for category in categories),
        category_ids=tuple(category["id"] for category in categories),
        mask_format=_mask_format(kinds),
        num_annotations=len(annotations),
    )


def _mask_format(kinds: set[type]) -> str:
    if not kinds or type(None) in kinds:
        return ""
    return "bitmask" if dict in kinds else "polygon"


def _get(data: Any, key: str) -> Any:
    return data.get(key) if isinstance(data, dict) else None


def _lacking(entries: list, kind: str, fields: tuple[str, ...]) -> Iterator[str]:
    """Entries without the fields that everything else relies on, and ids that stand twice."""
    seen = set()
    for i, entry in enumerate(entries):
        if lacking := [field for field in fields if _get(entry, field) is None]:
            yield f"{kind} number {i} (id {_get(entry, 'id')}) has no {', '.join(lacking)}"
        elif entry["id"] in seen:
            yield f"{kind} id {entry['id']} stands twice"
        else:
            seen.add(entry["id"])


def _find_errors(data: dict, image_root: str) -> Iterator[str]:
    images, categories = data["images"], data["categories"]
    annotations = data.get("annotations", [])
    if not categories:
        yield "its list of categories is empty"
    structural = [
        *_lacking(categories, "category", ("id", "name")),
        *_lacking(images, "image", ("id", "file_name", "height", "width")),
        *_lacking(annotations, "annotation", ("id", "image_id", "category_id", "bbox")),
    ]
    yield from structural
    if structural:  # the checks below need those fields
        return
    for image in images:
        if not os.path.isfile(os.path.join(image_root, image["file_name"])):
            yield f"image id {image['id']}: there is no {image['file_name']} in {image_root}"
    image_ids = {image["id"] for image in images}
    category_ids = {category["id"] for category in categories}
    for annotation in annotations:
        name = f"annotation id {annotation['id']}"
        if annotation["image_id"] not in image_ids:
            yield f"{name}: its image_id {annotation['image_id']} is not among the images"
        if annotation["category_id"] not in category_ids:
            yield (
                f"{name}: its category_id {annotation['category_id']} is not among the categories "
                f"{sorted(category_ids)[:SHOWN]}"
            )
        box = annotation["bbox"]
        numbers = isinstance(box, list) and all(isinstance(v, int | float) for v in box)
        if not numbers or len(box) != 4:
            yield f"{name}: its bbox {box} is not [x, y, width, height]"


def _warn_of_boxes(data: dict, json_file: str) -> None:
    """Name the boxes that detectron2 leaves out of training without a word."""
    sizes = {image["id"]: (image["width"], image["height"]) for image in data["images"]}
    unusable = []
    for annotation in data.get("annotations", []):
        x, y, w, h = annotation["bbox"]
        width, height = sizes[annotation["image_id"]]
        if w <= 0 or h <= 0 or x >= width or y >= height or x + w <= 0 or y + h <= 0:
            unusable.append(annotation["id"])
    if unusable:
        logging.getLogger(__name__).warning(
            f"{json_file}: {len(unusable)} annotations have a box that is empty or outside its "
            f"picture and are not trained on: ids {str(unusable[:SHOWN])[1:-1]}"
            + (" ..." if len(unusable) > SHOWN else "")
        )


def register_coco(name: str, json_file: str, image_root: str) -> CocoFacts:
    """Register a data set in COCO format; again with the same paths, do nothing.

    Args:
        name: name for DATASETS.TRAIN and DATASETS.TEST.
        json_file: path of the annotation file.
        image_root: folder of its pictures.

    Returns:
        What the file says.

    Raises:
        FileNotFoundError: no such file or folder.
        ValueError: a faulty file, or a name that stands for another data set already.
    """
    facts = read_coco(json_file, image_root)
    metadata = MetadataCatalog.get(name)
    if name in DatasetCatalog:
        before = (metadata.get("json_file"), metadata.get("image_root"))
        if before != (json_file, image_root):
            raise ValueError(
                f"The data set {name} is registered as {before[0]} with {before[1]} already, not "
                f"as {json_file} with {image_root}; give it another name."
            )
        return facts
    DatasetCatalog.register(name, lambda: load_coco_json(json_file, image_root, name))
    metadata.set(
        json_file=json_file,
        image_root=image_root,
        evaluator_type="coco",
        thing_classes=list(facts.classes),
        thing_dataset_id_to_contiguous_id={id_: i for i, id_ in enumerate(facts.category_ids)},
        mask_format=facts.mask_format,
    )
    return facts
