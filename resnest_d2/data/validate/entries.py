"""Checks that need no image to be opened. Training runs them first."""

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from resnest_d2.data.annotations import load_annotations
from resnest_d2.data.keypoints import keypoint_fault, keypoints_of
from resnest_d2.data.normalise import Reading, normalise
from resnest_d2.errors import MissingFileError, UserError
from resnest_d2.files import read_json

from .findings import Finding, listed
from .guesses import guess_boxes
from .rules import ANNOTATION_RULES, field_fault, missing_file, outside_folder

_SINGULAR = {"categories": "category", "images": "image", "annotations": "annotation"}


class AnnotationFile(NamedTuple):
    """Path of an annotation file, folder of its images, and contents of the file.

    ``readings`` are the fields that were read in another form than they were written in.
    """

    json_file: str
    image_root: str
    data: dict[str, Any]
    readings: tuple[Reading, ...] = ()


def read_annotations(json_file: str, image_root: str, *, shared: bool = False) -> AnnotationFile:
    """Reads a COCO JSON file without checking its entries.

    Args:
        json_file: path of the file.
        image_root: folder of its images.
        shared: take what :func:`load_annotations` shares, and must not be changed.

    Raises:
        MissingFileError: no such file or folder.
        UserError: not JSON, or without its lists.
    """
    for path, what in ((json_file, "annotation file"), (image_root, "image folder")):
        if not os.path.exists(path):
            raise MissingFileError(f"The {what} {path} does not exist; correct its path.")
    if not os.path.isdir(image_root):
        raise UserError(f"The image folder {image_root} is a file; give the folder of the images.")
    data = load_annotations(json_file) if shared else read_json(json_file)
    readings = () if shared else tuple(normalise(data))  # the shared contents are normalised
    if not isinstance(data, dict):
        data = {}
    lists = {"images": data.get("images"), "categories": data.get("categories")}
    lists["annotations"] = data.get("annotations", [])
    if missing := [name for name, value in lists.items() if not isinstance(value, list)]:
        raise UserError(f"{json_file} is not in COCO format: it has no list {missing}.")
    return AnnotationFile(json_file, image_root, {**data, **lists}, readings)


def check_entries(files: list[AnnotationFile]) -> list[Finding]:
    """Findings in the files of one data set, train and val say, errors first."""
    findings: list[Finding] = []
    for file in files:
        findings += _check_file(file)
    findings += _check_categories(files)
    return sorted(findings, key=lambda finding: finding.severity != "error")


def sound_entries(file: AnnotationFile, section: str) -> Iterator[tuple[int, dict]]:
    """Positions and entries with all required fields; of entries with the same id, the first."""
    seen = set()
    for i, entry in enumerate(file.data[section]):
        if not field_fault(section, entry) and entry["id"] not in seen:
            seen.add(entry["id"])
            yield i, entry


def _check_file(file: AnnotationFile) -> Iterator[Finding]:
    if not file.data["categories"]:
        yield Finding("field", file.json_file, "", "its list of categories is empty")
    for section in _SINGULAR:
        yield from _check_fields(file, section)
    yield from _check_images(file)
    yield from _check_annotations(file)
    yield from _summaries(file)
    for r in file.readings:
        yield Finding("read as", file.json_file, "", f"{r.number} {r.section}: {r}")


def _check_fields(file: AnnotationFile, section: str) -> Iterator[Finding]:
    """Checks required fields and duplicate ids."""
    kind, seen = _SINGULAR[section], set()
    for i, entry in enumerate(file.data[section]):
        if fault := field_fault(section, entry):
            id_ = entry.get("id") if isinstance(entry, dict) else None
            name = f"{kind} number {i} (id {id_})"
            yield Finding("field", file.json_file, name, fault, (section, i))
        elif entry["id"] in seen:
            name = f"{kind} id {entry['id']}"
            yield Finding("id twice", file.json_file, name, "is used twice", (section, i))
        else:
            seen.add(entry["id"])


def _check_images(file: AnnotationFile) -> Iterator[Finding]:
    first: dict[str, Any] = {}
    for i, image in sound_entries(file, "images"):
        name, path = f"image id {image['id']}", image["file_name"]
        if fault := missing_file(image, file.image_root):
            yield Finding("missing image", file.json_file, name, fault, ("images", i))
        if path in first:
            fault = f"its file {path} is also that of image id {first[path]}"
            yield Finding("listed twice", file.json_file, name, fault, ("images", i))
        first.setdefault(path, image["id"])
    if reason := outside_folder(first, file.image_root):
        yield Finding("outside folder", file.json_file, "", reason)


def _ids(entries: list) -> set:
    """Ids of all entries. Those of invalid ones count, since references to them are valid."""
    ids = (entry.get("id") for entry in entries if isinstance(entry, dict))
    return {id_ for id_ in ids if isinstance(id_, int | float | str)}


def _check_annotations(file: AnnotationFile) -> Iterator[Finding]:
    image_ids, category_ids = _ids(file.data["images"]), _ids(file.data["categories"])
    images = {image["id"]: image for _, image in sound_entries(file, "images")}
    known = listed(sorted(category_ids, key=str))
    sound = list(sound_entries(file, "annotations"))
    annotations = [annotation for _, annotation in sound]
    yield from guess_boxes(file.json_file, annotations, images)
    number = len(keypoints_of([c for _, c in sound_entries(file, "categories")], annotations).names)
    for i, annotation in sound:
        name, where = f"annotation id {annotation['id']}", ("annotations", i)
        if annotation["image_id"] not in image_ids:
            fault = f"its image_id {annotation['image_id']} is not among the images"
            yield Finding("unknown image", file.json_file, name, fault, where)
        if annotation["category_id"] not in category_ids:
            fault = f"its category_id {annotation['category_id']} is not among the categories"
            yield Finding("unknown category", file.json_file, name, f"{fault} [{known}]", where)
        if reason := keypoint_fault(annotation, number):
            yield Finding("keypoints", file.json_file, name, reason, where)
        image = images.get(annotation["image_id"])
        for kind, rule in ANNOTATION_RULES.items():
            if reason := rule(annotation, image):
                yield Finding(kind, file.json_file, name, reason, where)


def _summaries(file: AnnotationFile) -> Iterator[Finding]:
    """Notes, one of each kind per file."""
    annotations = [a for _, a in sound_entries(file, "annotations")]
    used = {a["image_id"] for a in annotations}
    empty = [i["id"] for _, i in sound_entries(file, "images") if i["id"] not in used]
    crowds = [a["id"] for a in annotations if a.get("iscrowd") == 1]
    bare = [a["id"] for a in annotations if not a.get("segmentation") and a.get("iscrowd") != 1]
    for kind, ids, what, reason in (
        (
            "no objects",
            empty,
            "image",
            "without objects, skipped in training by FILTER_EMPTY_ANNOTATIONS",
        ),
        ("crowd", crowds, "annotation", "crowds, not used in training and evaluation"),
        (
            "masks missing",
            bare,
            "annotation",
            "without a mask, which only a detector without masks can train on",
        ),
    ):
        if ids and (kind != "masks missing" or any(a.get("segmentation") for a in annotations)):
            yield Finding(kind, file.json_file, f"{what} id {listed(ids)}", f"{len(ids)} {reason}")


def _check_categories(files: list[AnnotationFile]) -> Iterator[Finding]:
    """Checks categories over all files, because a class may be absent from one of them."""
    used = {a["category_id"] for file in files for _, a in sound_entries(file, "annotations")}
    names = [{c["id"]: c["name"] for _, c in sound_entries(file, "categories")} for file in files]
    for file, categories in zip(files, names, strict=True):
        if categories != names[0]:
            differing = sorted({*categories.items()} ^ {*names[0].items()}, key=str)
            fault = f"its categories are not those of {files[0].json_file}: {listed(differing)}"
            yield Finding("categories differ", file.json_file, "", fault)
        counts = Counter(categories.values())
        first: dict[str, Any] = {}
        for i, category in sound_entries(file, "categories"):
            id_, name = category["id"], category["name"]
            entry, where = f"category id {id_}", ("categories", i)
            if counts[name] > 1 and name in first:
                fault = f"its name {name} is also that of category id {first[name]}"
                yield Finding("name twice", file.json_file, entry, fault, where)
            elif used and id_ not in used and counts[name] == 1:
                fault = f"no object is of the class {name}"
                yield Finding("unused category", file.json_file, entry, fault, where)
            first.setdefault(name, id_)
