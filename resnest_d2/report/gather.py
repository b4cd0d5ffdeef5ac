"""What a run has left in its OUTPUT_DIR, and the annotations that it was scored against."""

import json
import os
from typing import NamedTuple

import yaml
from detectron2.data import MetadataCatalog
from detectron2.utils.file_io import PathManager
from pycocotools.coco import COCO

from resnest_d2.data.coco_api import complete_annotations, read_api
from resnest_d2.errors import MissingFileError, UserError


class DataSet(NamedTuple):
    """A test set in COCO format: its name, annotation file and image folder."""

    name: str
    json_file: str
    image_root: str


class Run(NamedTuple):
    """What a run's folder holds.

    ``results`` is results.json (data set -> task -> metric -> percent), ``history`` the lines of
    metrics.json by iteration, one each, ``config`` the text of config.yaml; both may be empty.
    """

    folder: str
    results: dict[str, dict[str, dict[str, float]]]
    history: list[dict[str, float]]
    config: str


def read_run(folder: str) -> Run:
    """Read a run's folder.

    Args:
        folder: OUTPUT_DIR of the run.

    Raises:
        FileNotFoundError: it has no results.json.
    """
    path = os.path.join(folder, "results.json")
    if not os.path.isfile(path):
        raise MissingFileError(
            f"{folder} has no results.json; give the OUTPUT_DIR of a run that was evaluated."
        )
    with open(path, encoding="utf-8") as file:
        results = json.load(file)
    return Run(folder, results, _read_history(folder), _read_text(folder, "config.yaml"))


def _read_text(folder: str, name: str) -> str:
    path = os.path.join(folder, name)
    if not os.path.isfile(path):
        return ""
    with open(path, encoding="utf-8") as file:
        return file.read()


def _read_history(folder: str) -> list[dict[str, float]]:
    steps: dict[int, dict[str, float]] = {}
    for line in _read_text(folder, "metrics.json").splitlines():
        try:
            values = json.loads(line)
        except json.JSONDecodeError:  # the last line of a run that was killed
            continue
        # A resumed run does some iterations again: the later line counts.
        steps.setdefault(values["iteration"], {}).update(values)
    return [steps[iteration] for iteration in sorted(steps)]


def datasets_of(run: Run) -> list[DataSet]:
    """The test sets that a run's config names and its results hold.

    Data sets are looked up in DATASETS.COCO of the config, then among those registered.

    Raises:
        ValueError: none of them has an annotation file in COCO format.
    """
    keys = (yaml.safe_load(run.config) or {}).get("DATASETS", {})
    entries = {entry[0]: DataSet(*entry) for entry in keys.get("COCO", [])}
    found = []
    for name in run.results:
        metadata = MetadataCatalog.get(name)
        if name in entries:
            found.append(entries[name])
        elif metadata.get("json_file") and metadata.get("evaluator_type", "coco") == "coco":
            found.append(DataSet(name, metadata.json_file, metadata.get("image_root", "")))
    if not found:
        raise UserError(
            f"{run.folder}: no annotations for {', '.join(run.results) or 'any data set'}; "
            "DATASETS.COCO in its config.yaml does not name it, and it is not registered."
        )
    return found


def read_annotations(json_file: str) -> COCO:
    """Annotations of a data set, all masks as RLE."""
    api = read_api(PathManager.get_local_path(json_file))
    complete_annotations(api)
    for annotation in api.anns.values():
        if annotation.get("segmentation"):
            annotation["segmentation"] = api.annToRLE(annotation)
    return api


def read_detections(folder: str, name: str) -> list[dict]:
    """Detections on a data set in COCO's result format, as the evaluator has written them.

    Raises:
        FileNotFoundError: no evaluation has written them.
    """
    path = os.path.join(folder, "inference", name, "coco_instances_results.json")
    if not os.path.isfile(path):
        raise MissingFileError(f"{path} does not exist; evaluate {name} again with --eval-only.")
    with open(path, encoding="utf-8") as file:
        return json.load(file)
