"""What is wrong with an annotation of another format, before it is read.

Each function gives the reason, or None.
"""

import math
from xml.etree.ElementTree import Element

_POINTS = {"polygon": 3, "rectangle": 2, "circle": 2}  # at least, of a shape that is read


def fault_of_yolo(words: list[str], names: dict[int, str]) -> str | None:
    """What is wrong with a line of a label file: a class and four or more numbers."""
    if len(words) < 5 or not all(_is_number(word) for word in words):
        return "at least 5 tokens are needed, a class and the numbers of a box or polygon"
    if not words[0].isdigit() or int(words[0]) not in names:
        return f"class {words[0]} is not among the names {list(names)}"
    return None


def fault_of_voc(root: Element) -> str | None:
    """What is wrong with an annotation: sizes, names, corners that must be numbers."""
    for side in ("width", "height"):
        text = root.findtext(f"size/{side}")
        if text is not None and not _is_number(text):
            return f"its {side} is {text!r}, no number"
    for i, one in enumerate(root.findall("object"), 1):
        if not one.findtext("name"):
            return f"its object {i} has no name"
        for corner in ("xmin", "ymin", "xmax", "ymax"):
            text = one.findtext(f"bndbox/{corner}")
            if text is None or not _is_number(text):
                return f"the {corner} of its object {i} is {text!r}, no number"
        points = [p for polygon in one.findall("polygon") for p in polygon]
        for point in points:
            if not _is_number(point.text or ""):
                return f"the {point.tag} of its object {i}'s polygon is {point.text!r}, no number"
    return None


def fault_of_labelme(data: object) -> str | None:
    """What is wrong with the contents of a file: its image, or the labels and points of shapes."""
    if not isinstance(data, dict) or not isinstance(data.get("imagePath"), str):
        return "it has no imagePath"
    if not isinstance(data.get("shapes"), list):
        return "it has no list of shapes"
    for side in ("imageWidth", "imageHeight"):
        if not _is_number(str(data.get(side) or 0)):
            return f"its {side} is {data[side]!r}, no number"
    for i, shape in enumerate(data["shapes"], 1):
        if not isinstance(shape, dict):
            return f"its shape {i} is {shape!r}"
        kind = shape.get("shape_type")
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


def _is_point(point: object) -> bool:
    return isinstance(point, list) and len(point) == 2 and all(_is_number(str(v)) for v in point)


def _is_number(word: str) -> bool:
    try:
        return math.isfinite(float(word))
    except ValueError:
        return False
