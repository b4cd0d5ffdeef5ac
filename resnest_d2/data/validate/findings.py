"""Findings of a check, and the table of their kinds."""

from typing import NamedTuple

from resnest_d2.data.normalise import shown
from resnest_d2.errors import printable

SHOWN = 10  # most entries in one message

# Kind: severity, and a text for a summary of its entries. An error breaks training or evaluation, a
# warning makes the result worse, a note is worth knowing.
KINDS = {
    "file": ("error", "files cannot be read"),
    "field": ("error", "entries lack a field or have one of another type"),
    "id twice": ("error", "entries share their id with another"),
    "categories differ": ("error", "files have other categories than the first"),
    "missing image": ("error", "images are missing"),
    "unreadable image": ("error", "images cannot be read"),
    "truncated image": ("error", "images are truncated"),
    "pixels": ("error", "images have more than 8 bits per channel"),
    "image size": ("error", "images are of another size than annotated"),
    "EXIF orientation": ("error", "images are rotated by EXIF, but their annotations are not"),
    "unknown image": ("error", "annotations belong to no image"),
    "unknown category": ("error", "annotations are of no category"),
    "not a box": ("error", "annotations have no box of four numbers"),
    "not a mask": ("error", "annotations have a mask that cannot be used"),
    "keypoints": ("error", "annotations have keypoints that cannot be used"),
    "ignored": ("error", "annotations have the field ignore, which detectron2 refuses"),
    "iscrowd": ("error", "annotations have an iscrowd that is neither 0 nor 1"),
    "negative box": ("error", "annotations have a box of negative size"),
    "unusable box": (
        "warning",
        "annotations have a box that is empty or outside its image and are not used",
    ),
    "box beyond image": ("warning", "annotations have a box that reaches beyond its image"),
    "normalised boxes": ("warning", "boxes look like normalised boxes"),
    "corners": ("warning", "boxes look like x0, y0, x1, y1"),
    "polygon": ("warning", "annotations have a polygon that is not trained on; their boxes are"),
    "empty mask": ("warning", "annotations have an empty mask; only their box can be used"),
    "area": ("warning", "annotations have no area, which evaluation needs"),
    "no iscrowd": ("warning", "annotations have no iscrowd, which evaluation needs"),
    "unused category": ("warning", "categories have no objects"),
    "name twice": ("warning", "categories share their name with another"),
    "listed twice": ("warning", "images share their file with another"),
    "many objects": ("warning", "images have more objects than can be found"),
    "in two sets": ("warning", "images are in another set too"),
    "crowd": ("note", ""),
    "no objects": ("note", ""),
    "masks missing": ("note", ""),
    "turned image": ("note", ""),
    "several frames": (
        "note",
        "images have several frames or pages, of which only the first is read",
    ),
    "same image": ("note", ""),
    "anchors": ("note", ""),
    "outside folder": ("note", "images are outside of their folder"),
    "read as": ("note", ""),
}
LOGGED = {"outside folder", "several frames"}  # notes that a training logs as warnings
# Errors that only stop detectors with masks or keypoints; others train on the boxes.
PARTIAL = {"not a mask": "mask", "keypoints": "keypoints"}


class Finding(NamedTuple):
    """A problem in an annotation file or an image.

    ``entry`` is the entry's id, or "" for the whole file; ``where`` is its list and position in the
    file.
    """

    kind: str
    file: str
    entry: str
    reason: str
    where: tuple[str, int] | None = None

    @property
    def severity(self) -> str:
        """Severity: error, warning or note."""
        return KINDS[self.kind][0]

    def __str__(self) -> str:
        # "image id 1 has no height", but "image id 1: there is no 1.png"
        joint = " " if self.reason.startswith(("has ", "is ")) else ": "
        return printable(f"{self.entry}{joint}{self.reason}" if self.entry else self.reason)


def listed(ids: list) -> str:
    """First ten values of a list, separated by commas."""
    return ", ".join(map(shown, ids[:SHOWN])) + (", ..." if len(ids) > SHOWN else "")
