"""Writes COCO files as YOLO or Pascal VOC, and counts what these formats cannot hold.

The folder is put together beside its place and moved there when it is complete.
"""

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from resnest_d2.data.validate.rules import has_usable_box
from resnest_d2.errors import UserError
from resnest_d2.files import make_folder, read_json, writing
from resnest_d2.outputs import path_inside, require_empty

from .labelled import IMAGES, SPLITS, split_name
from .written import Annotated, Lost, voc_annotation, yolo_labels, yolo_yaml

_KNOWN = {  # fields whose contents the formats hold, or which follow from them
    "annotations": {"id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation"},
    "images": {"id", "file_name", "width", "height"},
}


class Exported(NamedTuple):
    """Folder, numbers of images and objects, and sentences on what the format cannot hold."""

    output: str
    images: int
    objects: int
    lost: list[str]


class _Set(NamedTuple):
    split: str
    image_root: str
    data: dict
    images: list[Annotated]


def export_data(
    pairs: Sequence[tuple[str, str]],
    format: str,
    *,
    output: str,
    link: bool = False,
    overwrite: bool = False,
) -> Exported:
    """Converts COCO files to another format, with their images.

    Args:
        pairs: annotation files and folders of their images. Files named train, val and test, or
            with an ending such as _val, are these splits; others are the first that is free.
        format: one of :data:`EXPORTS`.
        output: folder to write.
        link: make symbolic links to the images instead of copies.
        overwrite: replace existing files of a folder; others in it are left.

    Raises:
        OutputExistsError: the folder has files.
        MissingFileError: no such file or folder.
        WriteError: the folder cannot be written; then nothing is.
        UserError: an unknown format, a faulty file, files with different classes, or images whose
            names the format cannot tell apart.
    """
    if format not in EXPORTS:
        raise UserError(f"The format is {format!r}; choose from {', '.join(EXPORTS)}.")
    target = Path(output)
    require_empty(target, overwrite=overwrite)
    lost = Lost()
    sets = _read(pairs, lost)
    parent = target.absolute().parent
    make_folder(parent)
    with writing(output), tempfile.TemporaryDirectory(prefix=".export.", dir=parent) as partial:
        made = Path(partial) / "made"  # with the permissions of any new folder
        made.mkdir()
        EXPORTS[format](sets, made, link, lost)
        _move(made, target, lost)
    images = [image for part in sets for image in part.images]
    return Exported(output, len(images), lost.objects, lost.sentences())


def _read(pairs: Sequence[tuple[str, str]], lost: Lost) -> list[_Set]:
    from resnest_d2.data.coco import read_coco  # brings torch

    found: list[_Set] = []
    for split, (json_file, image_root) in zip(_split_names(pairs), pairs, strict=True):
        read_coco(json_file, image_root)
        data = read_json(json_file)
        classes = {c["id"]: c["name"] for c in data["categories"]}
        if found and classes != {c["id"]: c["name"] for c in found[0].data["categories"]}:
            raise UserError(f"The classes of {json_file} are not those of {pairs[0][0]}.")
        if twice := [n for n, k in Counter(classes.values()).items() if k > 1]:
            raise UserError(f"{json_file} has several classes named {twice[0]!r}.")
        found.append(_Set(split, image_root, data, list(_images(data, classes, lost))))
        _count_fields(data, lost)
    return found


def _split_names(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Split of each file by its name; a file without one is the first split that is free."""
    named = [split_name(Path(json_file).stem.rpartition("_")[2]) for json_file, _ in pairs]
    free = [split for split in SPLITS if split not in named]
    names = [name or (free.pop(0) if free else "") for name in named]
    if len(set(names)) < len(names) or "" in names:
        files = ", ".join(json_file for json_file, _ in pairs)
        raise UserError(f"{files} are not one file for each of {', '.join(SPLITS)}.")
    return names


def _images(data: dict, classes: dict, lost: Lost) -> Iterator[Annotated]:
    """Images with the objects that both formats can hold, their boxes within the image."""
    objects: dict = {image["id"]: [] for image in data["images"]}
    images = {image["id"]: image for image in data["images"]}
    for annotation in data.get("annotations", ()):
        image = images[annotation["image_id"]]
        if annotation.get("iscrowd"):
            lost.add("crowds are left out")
        elif not has_usable_box(annotation, image):
            lost.add("objects with boxes that are empty or outside their image are left out")
        else:
            x, y, w, h = annotation["bbox"]
            width, height = image["width"], image["height"]
            box = [max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)]
            if min(x, y) < 0 or x + w > width or y + h > height:
                lost.add("boxes that reach beyond their image are cut")
            name, mask = classes[annotation["category_id"]], annotation.get("segmentation") or []
            objects[annotation["image_id"]].append((name, box, mask))
            lost.objects += 1
    for id_, image in images.items():
        yield Annotated(image["file_name"], image["width"], image["height"], objects[id_])


def _count_fields(data: dict, lost: Lost) -> None:
    for section, known in _KNOWN.items():
        fields = Counter(
            field for entry in data.get(section, ()) for field, v in entry.items() if v is not None
        )
        for field in sorted(set(fields) - known):
            lost.add(f"{section} lose the field {field}", fields[field])


def _place_image(source: str, target: Path, *, link: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if link:
        target.symlink_to(os.path.abspath(source))
    else:
        shutil.copyfile(source, target)


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _require_distinct(names: list[str], images: list[Annotated]) -> None:
    """Raises the error that names two images whose labels would have the same name."""
    seen: dict[str, str] = {}
    for name, image in zip(names, images, strict=True):
        other = seen.setdefault(name.lower(), image.path)
        if other != image.path:
            raise UserError(
                f"{other} and {image.path} would both have the labels {name}; rename one of them."
            )


def _yolo_path(file_name: str) -> PurePosixPath:
    """Without a folder "images", the last of which YOLO's readers replace by "labels"."""
    *folders, name = path_inside(file_name)
    return PurePosixPath(*("images_" if p == "images" else p for p in folders), name)


def _to_yolo(sets: list[_Set], folder: Path, link: bool, lost: Lost) -> None:
    classes = [c["name"] for c in sorted(sets[0].data["categories"], key=lambda c: c["id"])]
    for part in sets:
        paths = [_yolo_path(image.path) for image in part.images]
        _require_distinct([str(path.with_suffix("")) for path in paths], part.images)
        for path, image in zip(paths, part.images, strict=True):
            source = os.path.join(part.image_root, image.path)
            _place_image(source, folder / "images" / part.split / path, link=link)
            text = yolo_labels(image, classes, lost)
            _write_text(folder / "labels" / part.split / path.with_suffix(".txt"), text)
    _write_text(folder / "data.yaml", yolo_yaml([part.split for part in sets], classes))


def _to_voc(sets: list[_Set], folder: Path, link: bool, lost: Lost) -> None:
    images = [image for part in sets for image in part.images]
    paths = ["_".join(path_inside(image.path)) for image in images]
    stems = [Path(path).stem for path in paths]
    _require_distinct(stems, images)
    if len(set(stems)) < len(stems):
        raise UserError("An image is in several of the files; Pascal VOC has one file for it.")
    rest = iter(zip(paths, stems, strict=True))
    (folder / "JPEGImages").mkdir()
    for part in sets:
        own = []
        for image, (path, stem) in zip(part.images, rest, strict=False):
            source = os.path.join(part.image_root, image.path)
            _place_image(source, folder / "JPEGImages" / path, link=link)
            text = voc_annotation(image, path, lost)
            _write_text(folder / "Annotations" / f"{stem}.xml", text)
            own.append(f"{stem}\n")
        _write_text(folder / "ImageSets" / "Main" / f"{part.split}.txt", "".join(own))


def _move(made: Path, target: Path, lost: Lost) -> None:
    """Moves a complete folder to its place, file by file where there is one already."""
    if not target.exists() or not any(target.iterdir()):
        os.rename(made, target)
        return
    moved = set()
    for path in sorted(made.rglob("*")):
        place = target / path.relative_to(made)
        if path.is_dir() and not path.is_symlink():
            make_folder(place)
            continue
        moved.add(place)
        if not (place.exists() and os.path.samefile(path, place)):  # a link to itself
            os.replace(path, place)
    for folder in {place.parent for place in moved if place.suffix.lower() in IMAGES}:
        if old := {path for path in folder.iterdir() if path.is_file()} - moved:
            lost.add(f"files of earlier contents are still in {folder}", len(old))


EXPORTS: dict[str, Callable[[list[_Set], Path, bool, Lost], None]] = {
    "yolo": _to_yolo,
    "voc": _to_voc,
}
