"""Reads a run's OUTPUT_DIR and the annotations that it was evaluated on."""

import math
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from detectron2.data import MetadataCatalog
from detectron2.utils.file_io import PathManager
from pycocotools.coco import COCO

from resnest_d2.data.annotations import no_collection
from resnest_d2.data.categories import Match, describe_match, match_categories
from resnest_d2.data.coco import is_ours, read_categories
from resnest_d2.data.coco_api import COCOS_LIMIT, complete_annotations, keep_categories, read_api
from resnest_d2.errors import MissingFileError, UserError
from resnest_d2.files import read_json, read_text
from resnest_d2.parsing import parse_json

from .run_config import config_of, entries_of

_TRAINED = "the weights in training"


class DataSet(NamedTuple):
    """Test set in COCO format: name, annotation file and image folder."""

    name: str
    json_file: str
    image_root: str


Results = dict[str, dict[str, dict[str, float]]]  # dataset -> task -> metric -> percent


class Run(NamedTuple):
    """Contents of a run's folder.

    The results of a training are those of its best evaluation, whose weights `predict` and `eval`
    take.

    Attributes:
        folder: OUTPUT_DIR.
        results: metrics of the evaluation.
        history: metrics of each iteration from metrics.json; may be empty.
        config: text of config.yaml; may be empty.
        weights: which weights the results are of; "" if that is not recorded.
        detections: folder of its detections.
        last: metrics of the last evaluation of a training, if another one was the best.
        last_weights: which weights these are of.
    """

    folder: str
    results: Results
    history: list[dict[str, float]]
    config: str
    weights: str = ""
    detections: str = "inference"
    last: Results = {}
    last_weights: str = ""


def read_run(folder: str) -> Run:
    """Reads a run's folder.

    Args:
        folder: OUTPUT_DIR of the run.

    Raises:
        MissingFileError: it has no results.json.
        UserError: a file of it cannot be read, or has other contents.
    """
    path = os.path.join(folder, "results.json")
    if not os.path.isfile(path):
        raise MissingFileError(
            f"{folder} has no results.json. Give the OUTPUT_DIR of a run that was evaluated."
        )
    results = read_json(path)
    if not isinstance(results, dict) or not all(isinstance(r, dict) for r in results.values()):
        raise UserError(f"{path} holds no results; evaluate the run again with --eval-only.")
    last = _with_nan(results)
    run = Run(folder, last, _read_history(folder), _read_text(folder, "config.yaml"))
    return _with_best(run)


def _with_best(run: Run) -> Run:
    """The run with the names of its weights, and with the results of the best ones."""
    record, best = (_read_record(run.folder, name) for name in ("weights.json", "best.json"))
    if not record:
        return run
    name, trained = record["file"], record["trained"]
    has_best = os.path.isfile(os.path.join(run.folder, "model_best.pth"))
    if not (record["training"] and has_best and best.get("results")):
        return run._replace(weights=_label(run, name or _TRAINED, trained))
    if best["trained"] == trained:
        name = f"model_best.pth and {name}" if name else "model_best.pth"
        return run._replace(weights=_label(run, name, trained))
    return run._replace(
        results=_with_nan(best["results"]),
        weights=_label(run, "model_best.pth", best["trained"]),
        detections="inference_best",
        last=run.results,
        last_weights=_label(run, name or _TRAINED, trained),
    )


def _read_record(folder: str, name: str) -> dict:
    path = os.path.join(folder, name)
    return read_json(path) if os.path.isfile(path) else {}


def _label(run: Run, name: str, trained: int | None) -> str:
    """Name of weights, with the iterations that they were trained for."""
    words = [name] if trained is None else [name, f"after {trained:,} iterations"]
    if config_of(run).get("MODEL", {}).get("EMA", {}).get("ENABLED"):
        words.append("moving average")
    return ", ".join(words)


def _with_nan(tree: Any) -> Any:
    """The same with NaN for null, which stands for an undefined metric in the file."""
    if isinstance(tree, dict):
        return {key: _with_nan(value) for key, value in tree.items()}
    return math.nan if tree is None else tree


def _read_text(folder: str, name: str) -> str:
    path = os.path.join(folder, name)
    return read_text(path) if os.path.isfile(path) else ""


def _read_history(folder: str) -> list[dict[str, float]]:
    steps: dict[int, dict[str, float]] = {}
    for line in _read_text(folder, "metrics.json").splitlines():
        try:
            values = parse_json(line, "metrics.json")
        except UserError:  # the last line of a run that was killed
            continue
        if not isinstance(values, dict) or not isinstance(values.get("iteration"), int):
            continue  # not a line that a training writes
        # A resumed run repeats some iterations; the later line wins.
        steps.setdefault(values["iteration"], {}).update(values)
    return [steps[iteration] for iteration in sorted(steps)]


def datasets_of(run: Run) -> list[DataSet]:
    """Test sets in a run's results that are in COCO format.

    Datasets are looked up in the config's DATASETS.COCO, then among the registered ones.

    Raises:
        UserError: none of them has an annotation file in COCO format.
    """
    entries = {entry[0]: DataSet(*entry) for entry in entries_of(run)}
    found = []
    for name in run.results:
        metadata = MetadataCatalog.get(name)
        if name in entries:
            found.append(entries[name])
        elif metadata.get("json_file") and metadata.get("evaluator_type", "coco") == "coco":
            found.append(DataSet(name, metadata.json_file, metadata.get("image_root", "")))
    if not found:
        raise UserError(
            f"{run.folder}: no annotations for {', '.join(run.results) or 'any dataset'}; it is "
            "neither in DATASETS.COCO of the run's config.yaml nor registered."
        )
    return found


def detector_classes(run: Run, dataset: DataSet) -> list[str]:
    """Names of the detector's classes, which the dataset's categories are matched to.

    They are those of the run's config, or of the dataset as it is registered. Empty if neither is
    known, and for a dataset that others registered, with the detector's own categories.
    """
    if dataset.name in [entry[0] for entry in entries_of(run)]:
        return list(config_of(run)["DATASETS"].get("CLASSES") or [])
    return list(MetadataCatalog.get(dataset.name).thing_classes) if is_ours(dataset.name) else []


def match_notes(json_file: str, classes: Sequence[str]) -> list[str]:
    """Sentences on the differences of a file's categories and a detector's classes."""
    if not classes:
        return []
    return describe_match(_match(json_file, classes))


def _match(json_file: str, classes: Sequence[str]) -> Match:
    categories = read_categories(PathManager.get_local_path(json_file))
    return match_categories(categories, classes, source=json_file)


def read_annotations(json_file: str, classes: Sequence[str] = ()) -> COCO:
    """Annotations of a data set, all masks as RLE.

    Args:
        json_file: path of the annotation file.
        classes: names of the detector's classes; categories that match none of them are left out,
            as in the evaluation. All are kept if empty.

    Raises:
        MissingFileError: the file has been moved or removed since the evaluation.
        UserError: none of its categories matches.
    """
    if not os.path.isfile(PathManager.get_local_path(json_file)):
        raise MissingFileError(f"The annotations {json_file} are gone; put the file back.")
    api = read_api(PathManager.get_local_path(json_file))
    if classes:
        index = _match(json_file, classes).numbers
        keep_categories(api, {id_: classes[i] for id_, i in index.items()})
    complete_annotations(api)
    for annotation in api.anns.values():
        if annotation.get("segmentation"):
            annotation["segmentation"] = api.annToRLE(annotation)
    return api


def detections_per_image(run: Run) -> int:
    """TEST.DETECTIONS_PER_IMAGE of a run; COCO's limit without a config."""
    return config_of(run).get("TEST", {}).get("DETECTIONS_PER_IMAGE", COCOS_LIMIT)


def read_detections(run: Run, name: str, api: COCO) -> list[dict]:
    """Reads the detections that a run's results are of, in COCO's result format.

    Args:
        run: the run.
        name: name of the dataset.
        api: its annotations.

    Raises:
        MissingFileError: no evaluation has written them.
        UserError: they are of other annotations.
    """
    path = os.path.join(run.folder, run.detections, name, "coco_instances_results.json")
    if not os.path.isfile(path):
        raise MissingFileError(f"{path} does not exist; evaluate {name} again with --eval-only.")
    with no_collection():
        detections = read_json(path)
    known = {"image_id": api.imgs.keys(), "category_id": api.cats.keys()}
    for key, ids in known.items():
        if unknown := {detection[key] for detection in detections} - ids:
            raise UserError(
                f"{path} has detections with {key} {min(unknown, key=str)}, which is not in the "
                f"annotations: they have changed since. Evaluate {name} again with --eval-only."
            )
    return detections
