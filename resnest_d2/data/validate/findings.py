"""What a check finds, and the table of its kinds."""

from typing import NamedTuple

SHOWN = 10  # entries named in one message

# Kind: severity, and what its entries have in common, for a line on many of them. An error breaks
# training or evaluation, a warning makes their result worse, a note is worth knowing.
KINDS = {
    "file": ("error", "files cannot be read"),
    "field": ("error", "entries lack a field or have one of another type"),
    "id twice": ("error", "entries share their id with another"),
    "categories differ": ("error", "files have other categories than the first"),
    "missing image": ("error", "images are missing"),
    "unreadable image": ("error", "images cannot be read"),
    "truncated image": ("error", "images are truncated"),
    "image size": ("error", "images are of another size than said"),
    "EXIF orientation": ("error", "images are turned by EXIF, their annotations are not"),
    "unknown image": ("error", "annotations belong to no image"),
    "unknown category": ("error", "annotations are of no category"),
    "not a box": ("error", "annotations have no box of four numbers"),
    "not a mask": ("error", "annotations have a mask that does not fit its image"),
    "ignored": ("error", "annotations have the field ignore, which detectron2 refuses"),
    "iscrowd": ("error", "annotations have an iscrowd that is neither 0 nor 1"),
    "negative box": ("error", "annotations have a box of negative size"),
    "unusable box": (
        "warning",
        "annotations have a box that is empty or outside its image and are not trained on",
    ),
    "box beyond image": ("warning", "annotations have a box that reaches beyond its image"),
    "polygon": ("warning", "annotations have a polygon that is not trained on"),
    "area": ("warning", "annotations have no area, which evaluation needs"),
    "no iscrowd": ("warning", "annotations have no iscrowd, which evaluation needs"),
    "unused category": ("warning", "categories have no objects"),
    "name twice": ("warning", "categories share their name with another"),
    "listed twice": ("warning", "images share their file with another"),
    "in two sets": ("warning", "images are in another set too"),
    "crowd": ("note", ""),
    "no objects": ("note", ""),
    "masks missing": ("note", ""),
    "turned image": ("note", ""),
    "same image": ("note", ""),
    "anchors": ("note", ""),
}


class Finding(NamedTuple):
    """One fault.

    ``entry`` names it by its id, or is "" where the whole file is meant; ``where`` is its list in
    the file and its position there.
    """

    kind: str
    file: str
    entry: str
    reason: str
    where: tuple[str, int] | None = None

    @property
    def severity(self) -> str:
        """error, warning or note."""
        return KINDS[self.kind][0]

    def __str__(self) -> str:
        # "image id 1 has no height", but "image id 1: there is no 1.png"
        joint = " " if self.reason.startswith(("has ", "stands ")) else ": "
        return f"{self.entry}{joint}{self.reason}" if self.entry else self.reason


def listed(ids: list) -> str:
    """The first ten of a list, without its brackets."""
    return ", ".join(map(str, ids[:SHOWN])) + (", ..." if len(ids) > SHOWN else "")
