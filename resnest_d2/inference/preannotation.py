"""Detections as annotations to correct by hand and to train on: labelme's files, and COCO JSON.

The folder has copies of the images, frames of videos as JPEG, so that it can be moved and opened
alone.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from PIL import Image

from resnest_d2.data.validate.masks import area_of
from resnest_d2.files import make_folder, whole_file
from resnest_d2.outputs import free_name
from resnest_d2.version import __version__

from .formats import annotations, labelme_file
from .result import Prediction
from .stem import stem_of


def _keep_image(prediction: Prediction, folder: Path, taken: set[str]) -> str:
    """Copies an image file, or writes a frame or an image from memory.

    Returns its name. No two of them differ by their suffix alone, since labelme and YOLO look for
    the annotations of a.png and of a.jpg under the same name.
    """
    make_folder(folder)
    path = prediction.path
    copied = prediction.frame is None and path is not None and os.path.isfile(path)
    suffix = Path(prediction.name).suffix if copied else ".jpg"
    name = free_name(stem_of(prediction), "", taken) + suffix
    with whole_file(folder / name) as file:
        if copied and path is not None:
            with open(path, "rb") as source:
                shutil.copyfileobj(source, file)
        else:
            Image.fromarray(prediction.image.read("RGB")).save(file, "JPEG", quality=95)
    return name


class LabelmeFiles:
    """labelme/a.json beside a copy of each image, to open with labelme and to import again."""

    verb = "annotated"

    def __init__(self, folder: Path):
        """See :mod:`resnest_d2.inference.saving`."""
        self._folder, self._names = folder / "labelme", set[str]()

    def add(self, prediction: Prediction, image_id: int) -> None:
        """Takes the next prediction."""
        image = _keep_image(prediction, self._folder, self._names)
        with whole_file((self._folder / image).with_suffix(".json"), "w") as file:
            json.dump(labelme_file(prediction, image), file, indent=1)

    def close(self) -> list[str]:
        """Returns the sentence on how to import the files."""
        if not self._names:
            return []
        return [f"Corrected: resnest-d2 import-data labelme {self._folder} --output FOLDER"]


class CocoFile:
    """coco/annotations.json, and copies of the images in coco/images."""

    verb = "annotated"

    def __init__(self, folder: Path):
        """See :mod:`resnest_d2.inference.saving`."""
        self._folder, self._names = folder / "coco", set[str]()
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._categories: dict[int, dict[str, Any]] = {}

    def add(self, prediction: Prediction, image_id: int) -> None:
        """Takes the next prediction."""
        found = annotations(prediction)
        height, width = prediction.image_size
        name = _keep_image(prediction, self._folder / "images", self._names)
        image = {"id": image_id, "file_name": name, "width": width, "height": height}
        self._images.append(image)
        names = list(prediction.metadata.get("thing_classes") or ())
        ids = list(prediction.metadata.get("category_ids") or range(1, len(names) + 1))
        for id_, category in zip(ids, names, strict=True):
            self._categories[id_] = {"id": id_, "name": category}
        for one in found:
            id_ = ids[one.class_id] if names else one.class_id + 1
            self._categories.setdefault(id_, {"id": id_, "name": one.name})
            x0, y0, x1, y1 = one.box
            annotation = {
                "id": len(self._annotations) + 1,
                "image_id": image_id,
                "category_id": id_,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "iscrowd": 0,
                "score": one.score,
                **({"segmentation": one.polygons} if one.polygons else {}),
            }
            self._annotations.append({**annotation, "area": area_of(annotation, image)})

    def close(self) -> list[str]:
        """Completes the file; returns the sentence on how to check it."""
        if not self._images:
            return []
        data = {
            "info": {"description": f"Detections of resnest_d2 {__version__}"},
            "images": self._images,
            "annotations": self._annotations,
            "categories": [self._categories[id_] for id_ in sorted(self._categories)],
        }
        path = self._folder / "annotations.json"
        with whole_file(path, "w") as file:
            json.dump(data, file)
        return [f"Corrected: resnest-d2 check-data {path} {self._folder / 'images'}"]
