"""Keypoints of your own data: names, left and right, and the skeleton, from the categories.

Format: https://cocodataset.org/#format-data, "Keypoint Detection". detectron2 has one set of
keypoints for all classes; objects without any are trained on with keypoints that are not labelled.
"""

import colorsys
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from resnest_d2.errors import printable

from .normalise import shown

# COCO's lie between 0.025 (eyes) and 0.107 (hips).
DEFAULT_SIGMA = 0.05
_OTHER_SIDE = {"left": "right", "right": "left", "l": "r", "r": "l"}


class Keypoints(NamedTuple):
    """Keypoints of a dataset.

    Attributes:
        names: their names, which differ.
        flips: pairs of names that change places in a mirrored image.
        skeleton: pairs of names that are connected in drawings.
    """

    names: tuple[str, ...] = ()
    flips: tuple[tuple[str, str], ...] = ()
    skeleton: tuple[tuple[str, str], ...] = ()

    def metadata(self) -> dict[str, list]:
        """Metadata by the names that detectron2 gives it."""
        colors = [
            tuple(round(255 * v) for v in colorsys.hsv_to_rgb(i / max(1, len(self.skeleton)), 1, 1))
            for i in range(len(self.skeleton))
        ]
        rules = [(a, b, color) for (a, b), color in zip(self.skeleton, colors, strict=True)]
        return {
            "keypoint_names": list(self.names),
            "keypoint_flip_map": list(self.flips),
            "keypoint_connection_rules": rules,
        }


def keypoints_of(categories: Sequence[dict], annotations: Sequence[dict]) -> Keypoints:
    """Describes the keypoints of a file; empty without any.

    Names come from the first category that has some. Without names they are numbered, by the
    longest list of an annotation, and none changes places in a mirrored image.

    Args:
        categories: sound categories of the file.
        annotations: its annotations.
    """
    for category in categories:
        if names := names_of(category):
            names = tuple(map(printable, names))
            if len(set(names)) < len(names):
                names = tuple(f"{name} {i}" for i, name in enumerate(names, 1))
            return Keypoints(names, _flips(names), _skeleton(category.get("skeleton"), names))
    points = (a.get("keypoints") for a in annotations)
    number = max((len(p) // 3 for p in points if isinstance(p, list)), default=0)
    return Keypoints(tuple(f"keypoint {i}" for i in range(1, number + 1)))


def names_of(category: dict) -> tuple[str, ...]:
    """Names of a category's keypoints; empty without any."""
    names = category.get("keypoints")
    sound = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return tuple(names) if isinstance(names, list) and sound else ()


def keypoint_fault(annotation: dict, number: int) -> str | None:
    """Checks that keypoints are [x, y, visibility, ...].

    Args:
        annotation: an entry of "annotations".
        number: number of keypoints of the dataset.
    """
    points = annotation.get("keypoints")
    if not points:
        return None
    from .validate.masks import is_finite

    if not isinstance(points, list) or not is_finite(points):
        return f"has keypoints that are not finite numbers: {shown(points)}"
    if len(points) != 3 * number:
        return f"has {len(points)} numbers for {number} keypoints of x, y and visibility"
    if bad := set(points[2::3]) - {0, 1, 2}:
        return f"has a keypoint of visibility {min(bad):g}, not 0, 1 or 2"
    return None


def labelled(annotation: dict, number: int) -> list[float]:
    """Keypoints of an annotation, [x, y, visibility, ...]; zeros without usable ones."""
    if annotation.get("keypoints") and not keypoint_fault(annotation, number):
        return annotation["keypoints"]
    return [0] * (3 * number)


def _flips(names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    pairs = []
    for i, name in enumerate(names):
        other = _mirrored(name)
        if other != name and other in names[i + 1 :]:
            pairs.append((name, other))
    return tuple(pairs)


def _mirrored(name: str) -> str:
    """The name with its sides exchanged: left_eye, eye-L and leftEye for right_eye and so on."""

    def other(found: re.Match) -> str:
        side = _OTHER_SIDE[found[0].lower()]
        if found[0].isupper():
            return side.upper()
        return side.capitalize() if found[0][0].isupper() else side

    words = re.sub(r"(?i)left|right", other, name)
    if words != name:
        return words
    return re.sub(r"(?i)(?<![a-z])[lr](?![a-z])", other, name)


def _skeleton(pairs: Any, names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Pairs of names for those of numbers from 1, also whole floats; invalid ones are left out."""
    numbers = range(1, len(names) + 1)
    return tuple(
        (names[int(pair[0]) - 1], names[int(pair[1]) - 1])
        for pair in (pairs if isinstance(pairs, list) else ())
        if isinstance(pair, list) and len(pair) == 2 and all(n in numbers for n in pair)
    )
