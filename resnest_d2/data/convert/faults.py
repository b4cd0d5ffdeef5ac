"""What is wrong with annotations of another format, before they are read.

Each function gives the reason, or None. :class:`Faults` collects them and reports equal ones in one
line.
"""

import logging
import math
import re
from xml.etree.ElementTree import Element

from resnest_d2.errors import UserError, printable

_LINES, _PLACES = 10, 3  # that a report shows
_VARIES = re.compile(r"'[^']*'|\d+(\.\d+)?")  # of reasons that are equal otherwise
_POINTS = {"polygon": 3, "rectangle": 2, "circle": 2}  # at least, of a shape that is read


class Faults:
    """Faults of annotations, and entries that are skipped, each with its place."""

    def __init__(self) -> None:
        """See the class."""
        self._faults: dict[str, list[tuple[str, str]]] = {}
        self._skipped: dict[str, list[tuple[str, str]]] = {}

    def __bool__(self) -> bool:
        return bool(self._faults)

    def add(self, place: str, reason: str) -> None:
        """Adds a fault, which ends the import."""
        self._faults.setdefault(_VARIES.sub("#", reason), []).append((place, reason))

    def skip(self, place: str, reason: str) -> None:
        """Adds an entry that is skipped with a warning."""
        self._skipped.setdefault(_VARIES.sub("#", reason), []).append((place, reason))

    def finish(self) -> None:
        """Logs what was skipped and raises the faults, a line for those that are equal.

        Raises:
            UserError: there are faults.
        """
        for entries in self._skipped.values():
            logging.getLogger(__name__).warning(_line(entries))
        lines = [_line(entries) for entries in self._faults.values()]
        if len(lines) > _LINES:
            lines[_LINES:] = [f"... and {len(lines) - _LINES} more kinds of faults."]
        if len(lines) == 1:
            raise UserError(lines[0])
        if lines:
            raise UserError("The annotations are faulty:\n  " + "\n  ".join(lines))


def _line(entries: list[tuple[str, str]]) -> str:
    place, reason = (printable(text) for text in entries[0])
    if len(entries) == 1:
        return f"{place}: {reason}."
    places = ", ".join(dict.fromkeys(printable(other) for other, _ in entries[1 : _PLACES + 1]))
    end = " ..." if len(entries) > _PLACES + 1 else "."
    return f"{place}: {reason}; {len(entries) - 1} more like it, in {places}{end}"


def fault_of_yolo(words: list[str], names: dict[int, str]) -> str | None:
    """What is wrong with a line of a label file: a class and four or more numbers."""
    if len(words) < 5 or not all(is_number(word) for word in words):
        return "at least 5 tokens are needed, a class and the numbers of a box or polygon"
    if not words[0].isdigit() or int(words[0]) not in names:
        return f"class {words[0]} is not among the names {list(names)}"
    return None


def fault_of_voc(root: Element) -> str | None:
    """What is wrong with an annotation: sizes, names, corners that must be numbers."""
    for side in ("width", "height"):
        text = root.findtext(f"size/{side}")
        if text is not None and not is_number(text):
            return f"its {side} is {text!r}, no number"
    for i, one in enumerate(root.findall("object"), 1):
        if not one.findtext("name"):
            return f"its object {i} has no name"
        for corner in ("xmin", "ymin", "xmax", "ymax"):
            text = one.findtext(f"bndbox/{corner}")
            if text is None or not is_number(text):
                return f"the {corner} of its object {i} is {text!r}, no number"
        points = [p for polygon in one.findall("polygon") for p in polygon]
        for point in points:
            if not is_number(point.text or ""):
                return f"the {point.tag} of its object {i}'s polygon is {point.text!r}, no number"
    return None


def fault_of_labelme(data: object) -> str | None:
    """What is wrong with the contents of a file: its image, or the labels and points of shapes."""
    if not isinstance(data, dict) or not isinstance(data.get("imagePath"), str):
        return "it has no imagePath"
    if not isinstance(data.get("shapes"), list):
        return "it has no list of shapes"
    for side in ("imageWidth", "imageHeight"):
        if not is_number(str(data.get(side) or 0)):
            return f"its {side} is {data[side]!r}, no number"
    for i, shape in enumerate(data["shapes"], 1):
        if not isinstance(shape, dict):
            return f"its shape {i} is {shape!r}"
        kind = shape_type(shape)
        if kind not in _POINTS:
            continue
        points = shape.get("points")
        if not isinstance(shape.get("label"), str):
            return f"its shape {i} has no label"
        if not isinstance(points, list) or not all(_is_point(point) for point in points):
            return f"the points of its shape {i} are not pairs of numbers"
        if len(points) < _POINTS[kind] or (kind == "circle" and len(points) > 2):
            return f"its shape {i}, a {kind}, has {len(points)} points"
    return None


def shape_type(shape: dict) -> str:
    """Kind of a shape of labelme, which takes one without a kind for a polygon."""
    return str(shape.get("shape_type") or "polygon")


def _is_point(point: object) -> bool:
    return isinstance(point, list) and len(point) == 2 and all(is_number(str(v)) for v in point)


def is_number(word: str) -> bool:
    """Whether a text is a finite number."""
    try:
        return math.isfinite(float(word))
    except ValueError:
        return False
