"""Recognises the format of annotations, to name the right command where a wrong one was given."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from resnest_d2.errors import UserError

_HEAD = 1 << 16  # characters of a file that are looked at
_JSON = {  # what the beginning of a file of each kind has, in the order of the search
    "coco": r'^\s*\{.*"(images|annotations|categories)"\s*:',
    "labelme": r'^\s*\{.*"(shapes|imagePath)"\s*:',
    "labelstudio": r'^\s*\[\s*\{.*"(result|data|original_width|annotator|annotation_id)"\s*:',
}
_XML = {"voc": r"<annotation[\s>]", "cvat": r"<annotations[\s>]"}


class Kind(NamedTuple):
    """Words for annotations of a format, and whether a path is of it."""

    words: str
    matches: Callable[[Path], bool]


def _head(path: Path) -> str:
    if not path.is_file() or not os.access(path, os.R_OK):
        return ""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read(_HEAD)


def _first(folder: Path, pattern: str) -> Path | None:
    return next(folder.glob(pattern), None) if folder.is_dir() else None


def _file_is(kind: str, path: Path) -> bool:
    if path.suffix.lower() == ".xml":
        return kind in _XML and re.search(_XML[kind], _head(path)) is not None
    if path.suffix.lower() != ".json" or kind not in _JSON:
        return False
    head = _head(path)
    return next((k for k in _JSON if re.search(_JSON[k], head, flags=re.S)), None) == kind


def _of_files(kind: str, pattern: str, *folders: str) -> Callable[[Path], bool]:
    """Whether a file, or the first one in a folder or its subfolders of these names, is of it."""

    def matches(path: Path) -> bool:
        if path.is_file():
            return _file_is(kind, path)
        found = (_first(path / folder, pattern) for folder in ("", *folders))
        return any(file is not None and _file_is(kind, file) for file in found)

    return matches


def _is_yolo(path: Path) -> bool:
    if path.is_file():
        text = _head(path)
        if path.suffix.lower() == ".txt":  # labels: a class and the numbers of a box or polygon
            return re.match(r"\s*\d+( +[\d.eE+-]+){4,}\s*$", text.partition("\n")[0]) is not None
        return path.suffix.lower() in (".yaml", ".yml") and bool(
            re.search(r"^names\s*:", text, re.M)
        )
    return (path / "data.yaml").is_file() or _first(path / "labels", "**/*.txt") is not None


def _is_roboflow(path: Path) -> bool:
    return any(_first(path, f"{inside}{ROBOFLOW_FILE}") for inside in ("", "*/"))


ROBOFLOW_FILE = "_annotations.coco.json"
KINDS = {
    "roboflow": Kind("a Roboflow export of COCO", _is_roboflow),
    "yolo": Kind("YOLO annotations", _is_yolo),
    "voc": Kind("Pascal VOC annotations", _of_files("voc", "*.xml", "Annotations", "annotations")),
    "cvat": Kind("a CVAT export", _of_files("cvat", "*.xml")),
    "labelme": Kind("labelme annotations", _of_files("labelme", "*.json")),
    "labelstudio": Kind("a Label Studio export", _of_files("labelstudio", "*.json")),
    "coco": Kind("COCO annotations", lambda path: path.is_file() and _file_is("coco", path)),
}


def kind_of(path: Path) -> str | None:
    """Name of the format in :data:`KINDS`, or None if it is not recognised."""
    return next((name for name, kind in KINDS.items() if kind.matches(path)), None)


def require_coco(path: Path) -> None:
    """Refuses annotations of a format that import-data reads, with the command to run first.

    Raises:
        UserError: annotations of another format.
    """
    kind = kind_of(path)
    if kind == "yolo" and path.suffix.lower() == ".txt":
        raise UserError(
            f"{path} is of YOLO, not COCO. Convert the data set that it is part of first: "
            "resnest-d2 import-data yolo data.yaml --output FOLDER."
        )
    if kind not in (None, "coco"):
        raise UserError(f"{path} is not a COCO file: {_advice(path, str(kind))}")
    if path.is_dir() and (parts := list(_parts(path))):
        kind, folders = parts[0]
        raise UserError(f"{path} is not a COCO file: {_advice(path, kind, *folders)}")


def _advice(path: Path, kind: str, *sources: Path) -> str:
    given = " ".join(map(str, sources or [path]))
    return (
        f"it holds {KINDS[kind].words}. Convert them first: "
        f"resnest-d2 import-data {kind} {given} --output FOLDER."
    )


def _parts(path: Path) -> Iterator[tuple[str, list[Path]]]:
    """Formats that subfolders are of, each with its folders."""
    folders = sorted(p for p in path.iterdir() if p.is_dir())
    for name, kind in KINDS.items():
        if own := [folder for folder in folders if kind.matches(folder)]:
            yield name, own


def require_kind(path: Path, kind: str | None) -> None:
    """Refuses a source of another format than the one given, with the right command.

    Args:
        path: source; nothing is said of one that is not recognised.
        kind: name in :data:`KINDS`, None if the command got none.

    Raises:
        UserError: the source is of another format, or holds folders of a format.
    """
    if kind is not None and KINDS[kind].matches(path):
        return
    found, sources = kind_of(path), [path]
    if found is None and path.is_dir():
        parts = dict(_parts(path))
        if kind in parts or parts:
            found = kind if kind in parts else next(iter(parts))
            sources = parts[str(found)]
    if found == "coco":
        raise UserError(
            f"{path} is a COCO file already; nothing is to be converted. To split it: "
            f"resnest-d2 split {path} IMAGES --output FOLDER."
        )
    if found is not None:
        given = " ".join(map(str, sources))
        told = f"holds {KINDS[found].words}" + ("" if sources == [path] else " in its folders")
        raise UserError(
            f"{path} {told}; to convert them: "
            f"resnest-d2 import-data {found} {given} --output FOLDER."
        )
