"""Entries of DATASETS.COCO from the paths of annotations and images."""

import logging
import os
from pathlib import Path

from detectron2.data import DatasetCatalog

from resnest_d2.errors import UserError

from .annotations import load_annotations
from .coco import is_ours
from .convert import require_coco

Paths = str | os.PathLike | tuple[str | os.PathLike, str | os.PathLike]
_BUILT_IN = ("coco_", "keypoints_coco_", "lvis_", "cityscapes_", "ade20k_", "voc_20")


def dataset_entry(paths: Paths, *, before: str = "") -> list[str]:
    """Entry of DATASETS.COCO, named after its file.

    cells/val.json and cells_val.json in any folder, as import-data writes it, become cells_val. A
    name like those that detectron2 registers itself gets the folder's before it, and one that is
    registered, but not by :func:`register_coco`, ``own``.

    Args:
        paths: COCO annotations and the folder of their images, "" to look for it; or the
            annotations alone.
        before: folder of the images of the set before, where these may be, too.

    Returns:
        The name, and both absolute paths.

    Raises:
        MissingFileError: no such annotations.
        UserError: annotations of another format than COCO, or images that are not found.
    """
    json_file, images = paths if isinstance(paths, tuple | list) else (paths, "")
    path = Path(json_file)
    require_coco(path)
    images = images or _find_images(path, before)
    path = path.absolute()
    name = path.stem
    if not name.endswith(("_train", "_val", "_test")) or name.startswith(_BUILT_IN):
        name = f"{path.parent.name}_{name}"
    if name in DatasetCatalog and not is_ours(name):
        name = f"own_{name}"
    return [name, str(path), str(Path(images).absolute())]


def _find_images(json_file: Path, before: str) -> str:
    """Folder of the first image of an annotation file.

    Raises:
        UserError: it is in none of the usual folders.
    """
    beside = json_file.parent
    places = [beside / "images", beside / json_file.stem, beside, beside.parent / "images"]
    places = [*([Path(before)] if before else []), *places]
    if not json_file.is_file():  # the checks of the data name it
        return before or str(beside)
    content = load_annotations(str(json_file))
    images = content.get("images") if isinstance(content, dict) else None
    first = images[0] if isinstance(images, list) and images else None
    name = first.get("file_name") if isinstance(first, dict) else None
    for place in places:
        if isinstance(name, str) and (place / name).is_file():
            if str(place) != before:
                logging.getLogger(__name__).info(f"The images of {json_file} are in {place}.")
            return str(place)
    if before:  # as it was given: the checks of the data name what is missing there
        return before
    raise UserError(
        f"The images of {json_file} are not in {', '.join(map(str, places))}; give their folder "
        "after it."
    )
