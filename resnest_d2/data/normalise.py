"""Values in annotation files that can be read in one way only, brought to COCO's form.

pandas writes whole numbers as floats, some tools write ``iscrowd`` as true. Other values stay as
they are, for the checks to report.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from resnest_d2.errors import printable

_LONGEST = 60  # characters of a name or value in a message


class Reading(NamedTuple):
    """A field that was read in another form than it was written in.

    Attributes:
        section: "images", "categories" or "annotations".
        field: name of the field.
        number: number of entries.
        written: the first entry's value in the file.
        read: what it was read as.
    """

    section: str
    field: str
    number: int
    written: Any
    read: Any

    def __str__(self) -> str:
        if isinstance(self.written, str):
            return f"control characters of the {self.field} are escaped, {shown(self.read)}"
        return f"{self.field} written as {shown(self.written)} is read as {shown(self.read)}"


def shown(value: object) -> str:
    """A name or value for a message: printable, its end left out if it is long."""
    text = printable(value)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."


def normalise(content: Any) -> list[Reading]:
    """Normalises the contents of a COCO file in place.

    Args:
        content: contents of the file; anything that is not in COCO format stays as it is.

    Returns:
        What was read in another form, one entry for each field.
    """
    found: dict[tuple[str, str], Reading] = {}
    for section, fields in _READERS.items():
        entries = content.get(section) if isinstance(content, dict) else None
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict):
                for field, read in fields.items():
                    written = entry.get(field)
                    if (value := read(written)) is not written:
                        entry[field] = value
                        first = Reading(section, field, 0, written, value)
                        known = found.get((section, field), first)
                        found[section, field] = known._replace(number=known.number + 1)
    return list(found.values())


def _whole(value: Any) -> Any:
    """48.0 as 48."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _flag(value: Any) -> Any:
    return int(value) if isinstance(value, bool) else _whole(value)


def _name(value: Any) -> Any:
    text = printable(value) if isinstance(value, str) else value
    return value if text == value else text


def _rle(value: Any) -> Any:
    """Size and runs of an RLE; polygons stay as they are."""
    if not isinstance(value, dict):
        return value
    numbers = {}
    for key in ("size", "counts"):
        before = value.get(key)
        if isinstance(before, list) and any(isinstance(v, float) for v in before):
            after = [_whole(v) for v in before]
            if not any(isinstance(v, float) for v in after):
                numbers[key] = after
    return {**value, **numbers} if numbers else value


# How each field is read; a reader returns the very value that it leaves unchanged.
_READERS: dict[str, dict[str, Callable[[Any], Any]]] = {
    "images": {"id": _whole, "height": _whole, "width": _whole},
    "categories": {"id": _whole, "name": _name},
    "annotations": {
        "id": _whole,
        "image_id": _whole,
        "category_id": _whole,
        "iscrowd": _flag,
        "segmentation": _rle,
    },
}
