"""Clean copies of annotation files: entries are repaired if that is no guess, or else dropped."""

import copy
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tabulate import tabulate

from resnest_d2.errors import UserError, printable
from resnest_d2.files import write_json_files
from resnest_d2.outputs import require_new

from .check import DataCheck, rows_of
from .entries import AnnotationFile, check_entries
from .findings import KINDS, SHOWN, Finding
from .masks import area_of, is_polygon

Drop = Callable[[dict], None]


class Repair(NamedTuple):
    """A finding and the action taken."""

    finding: Finding
    done: str


def _dropped(data: dict, entry: dict, drop: Drop) -> str:
    drop(entry)
    return "dropped"


def _separated(data: dict, entry: dict, drop: Drop) -> str:
    """Resolves a duplicate id: drops a copy, gives an annotation a new id, or drops all."""
    section = next(s for s in ("annotations", "images", "categories") if entry in data[s])
    twins = [other for other in data[section] if other.get("id") == entry["id"]]
    if twins.count(entry) > 1:
        drop(entry)
        return "dropped, a copy"
    if section == "annotations":
        numbers = [a["id"] for a in data[section] if isinstance(a.get("id"), int)]
        entry["id"] = max(numbers, default=0) + 1
        return f"given the id {entry['id']}"
    for twin in twins:
        drop(twin)
    return "all with this id dropped, because annotations could mean any of them"


def _clipped(data: dict, entry: dict, drop: Drop) -> str:
    image = _image_of(data, entry)
    x, y, w, h = entry["bbox"]
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + w, image["width"]), min(y + h, image["height"])
    entry["bbox"] = [left, top, right - left, bottom - top]
    return f"clipped to {entry['bbox']}"


def _without_polygons(data: dict, entry: dict, drop: Drop) -> str:
    entry["segmentation"] = [part for part in entry["segmentation"] if is_polygon(part)]
    return "polygon dropped" if entry["segmentation"] else _without_mask(data, entry, drop)


def _without_mask(data: dict, entry: dict, drop: Drop) -> str:
    entry["segmentation"] = []
    return "mask dropped, box kept: lost to a detector with masks"


def _without_keypoints(data: dict, entry: dict, drop: Drop) -> str:
    for field in ("keypoints", "num_keypoints"):
        entry.pop(field, None)
    return "keypoints dropped, box kept"


def _with_area(data: dict, entry: dict, drop: Drop) -> str:
    entry["area"] = area_of(entry, _image_of(data, entry))
    return f"set to {entry['area']:g}"


def _with_iscrowd(data: dict, entry: dict, drop: Drop) -> str:
    entry["iscrowd"] = 0
    return "set to 0"


def _merged_category(data: dict, entry: dict, drop: Drop) -> str:
    return _merged(data, entry, drop, section="categories", same="name", field="category_id")


def _merged_image(data: dict, entry: dict, drop: Drop) -> str:
    return _merged(data, entry, drop, section="images", same="file_name", field="image_id")


def _merged(data: dict, entry: dict, drop: Drop, *, section: str, same: str, field: str) -> str:
    first = next(other for other in data[section] if other[same] == entry[same])
    for annotation in data["annotations"]:
        if annotation[field] == entry["id"]:
            annotation[field] = first["id"]
    drop(entry)
    return f"its annotations moved to id {first['id']}"


def _image_of(data: dict, annotation: dict) -> dict:
    return next(image for image in data["images"] if image["id"] == annotation["image_id"])


# Kind of finding -> repair. Other kinds must be corrected by hand.
_REPAIRS: dict[str, Callable[[dict, dict, Drop], str]] = {
    "field": _dropped,
    "id twice": _separated,
    "missing image": _dropped,
    "unreadable image": _dropped,
    "truncated image": _dropped,
    "image size": _dropped,  # its boxes may fit either size
    "EXIF orientation": _dropped,
    "unknown image": _dropped,
    "unknown category": _dropped,
    "not a box": _dropped,
    "not a mask": _without_mask,
    "keypoints": _without_keypoints,
    "ignored": _dropped,
    "iscrowd": _with_iscrowd,
    "negative box": _dropped,
    "in two sets": _dropped,
    "unusable box": _dropped,
    "box beyond image": _clipped,
    "polygon": _without_polygons,
    "empty mask": _without_mask,
    "area": _with_area,
    "no iscrowd": _with_iscrowd,
    "unused category": _dropped,
    "name twice": _merged_category,
    "listed twice": _merged_image,
}


# Kinds that stop a repair, because all of a data set may be written so.
_BY_HAND = ("normalised boxes", "corners", "pixels")


def fix_data(
    check: DataCheck, outputs: Sequence[str], *, overwrite: bool = False
) -> tuple[Repair, ...]:
    """Writes clean copies of the checked files, which pass the strict check.

    Entries are repaired or dropped. Annotations of a dropped image or category are dropped too.

    Args:
        check: result of :func:`check_data`; it and its files are not changed.
        outputs: path of each file's copy, in the order of the files.
        overwrite: replace existing outputs.

    Returns:
        The repairs, one for each finding.

    Raises:
        OutputExistsError: an output exists.
        WriteError: an output cannot be written.
        UserError: an output is one of the inputs, their numbers differ, or findings are left that
            only a person can settle.
    """
    if unread := [str(finding) for finding in check.findings if finding.kind == "file"]:
        raise UserError(f"Nothing was repaired: {unread[0]}")
    if unclear := [finding for finding in check.findings if finding.kind in _BY_HAND]:
        first = unclear[0]
        raise UserError(
            f"Nothing was written: {first.file}: {first}. Correct it by hand: a repair would drop "
            "or clip what is only written in another form."
        )
    _check_outputs([file.json_file for file in check.files], outputs, overwrite=overwrite)
    files = [file._replace(data=copy.deepcopy(file.data)) for file in check.files]
    repairs: list[Repair] = []
    findings = list(check.findings)
    # A repair can lead to others: a dropped object may leave its class unused.
    while todo := _next(findings):
        repairs += _repair(files, todo)
        findings = check_entries(files)
    if left := [str(finding) for finding in findings if finding.severity != "note"]:
        raise UserError(
            "Nothing was written, because this cannot be repaired without guessing; correct it "
            "by hand:\n  " + "\n  ".join(left[:SHOWN])
        )
    write_json_files(dict(zip(outputs, (file.data for file in files), strict=True)))
    return tuple(repairs)


def repair_table(repairs: Sequence[Repair]) -> str:
    """Table of the repairs; more than three alike take one row."""
    groups: dict[tuple[str, str, str], list[Repair]] = {}
    for repair in repairs:
        groups.setdefault((repair.finding.kind, repair.finding.file, repair.done), []).append(
            repair
        )
    rows = [
        (*row[2:], printable(done))
        for (*_, done), group in groups.items()
        for row in rows_of([repair.finding for repair in group])
    ]
    return tabulate(rows, ("file", "entry", "reason", "done"))


def _next(findings: list[Finding]) -> list[Finding]:
    """Findings to repair next: errors and duplicates first, since others need valid entries."""
    todo = [f for f in findings if f.kind in _REPAIRS and f.where]
    first = [f for f in todo if KINDS[f.kind][0] == "error" or f.kind == "in two sets"]
    return first or todo


def _repair(files: list[AnnotationFile], findings: list[Finding]) -> list[Repair]:
    repairs: list[Repair] = []
    dropped: set[int] = set()
    by_name = {file.json_file: file.data for file in files}
    # Held until the end, so that no entry takes over the identity of one that is gone.
    places = ((f.file, f.where) for f in findings if f.where)  # _next gives no others
    entries = [by_name[file][section][i] for file, (section, i) in places]
    for finding, entry in zip(findings, entries, strict=True):
        if id(entry) in dropped:
            continue
        done = _REPAIRS[finding.kind](
            by_name[finding.file], entry, lambda gone: dropped.add(id(gone))
        )
        repairs.append(Repair(finding, done))
    for data in by_name.values():
        for section in ("images", "annotations", "categories"):
            data[section] = [e for e in data[section] if id(e) not in dropped]
    return repairs


def _check_outputs(inputs: list[str], outputs: Sequence[str], *, overwrite: bool) -> None:
    if len(outputs) != len(inputs):
        raise UserError(
            f"{len(inputs)} annotation files need as many outputs for their clean copies, in "
            f"their order; got {len(outputs)}."
        )
    require_new(outputs, overwrite=overwrite, sources=inputs)
