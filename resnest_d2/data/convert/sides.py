"""Classes by side of a split, in a table and in sentences."""

from collections import Counter
from typing import NamedTuple

import numpy as np
from tabulate import tabulate

_IMAGES = 0.05  # by which a side's share of the images may differ without a note
_POINTS = 2.0  # percent by which a class's share of a side may differ without a note


class Sides(NamedTuple):
    """Each side's name and share, index of each image's side, and number of each image's group."""

    names: list[str]
    shares: list[float]
    of_image: np.ndarray
    groups: np.ndarray


def count_objects(data: dict) -> np.ndarray:
    """Objects of each class, 1, and 1 without objects, of each image: (N, classes + 2)."""
    rows = {image["id"]: i for i, image in enumerate(data["images"])}
    columns = {category["id"]: i for i, category in enumerate(data["categories"])}
    counts = np.zeros((len(rows), len(columns) + 2), int)
    for annotation in data.get("annotations", ()):
        if not annotation.get("iscrowd"):
            counts[rows[annotation["image_id"]], columns[annotation["category_id"]]] += 1
    counts[:, -2] = 1
    counts[:, -1] = counts[:, :-2].sum(1) == 0
    return counts


def side_table(data: dict, sides: Sides) -> str:
    """Table of the objects of each class in all and on each side, with their shares in percent."""
    counts = count_objects(data)
    parts = [counts.sum(0)] + [counts[sides.of_image == i].sum(0) for i in range(len(sides.names))]
    names = [category["name"] for category in data["categories"]]
    rows: list[list] = []
    for i, name in enumerate(names):
        cells = [(part[i], f"{100 * part[i] / max(1, part[:-2].sum()):.1f}") for part in parts]
        rows.append([name, *(value for cell in cells for value in cell)])
    for name, of in (
        ("all objects", lambda part: part[:-2].sum()),
        ("images", lambda part: part[-2]),
        ("without objects", lambda part: part[-1]),
    ):
        rows.append([name, *(value for part in parts for value in (of(part), ""))])
    headers = ["class", *(value for name in ("all", *sides.names) for value in (name, "%"))]
    return tabulate(
        rows, headers, disable_numparse=True, colalign=["left"] + ["right"] * (len(headers) - 1)
    )


def describe(data: dict, sides: Sides) -> list[str]:
    """Sentences on near-duplicates and groups, and on classes that are absent or uneven."""
    notes = []
    sizes = Counter(sides.groups.tolist())
    if several := [size for size in sizes.values() if size > 1]:
        notes.append(
            f"{sum(several)} images are in {len(several)} groups of near-duplicates or of "
            f"--group-by, the largest of {max(several)}; each group is in one set."
        )
    for i, (name, share) in enumerate(zip(sides.names, sides.shares, strict=True)):
        found = float((sides.of_image == i).mean())
        if several and abs(found - share) > _IMAGES:
            notes.append(
                f"{name} has {found:.0%} of the images instead of {share:.0%}, because the groups "
                "are large; a lower --max-distance makes groups of near-duplicates smaller."
            )
    counts = count_objects(data)[:, :-2]
    whole = counts.sum(0)
    for i, name in enumerate(sides.names):
        part = counts[sides.of_image == i].sum(0)
        off = 100 * part / max(1, part.sum()) - 100 * whole / max(1, whole.sum())
        for category, there, all_, points in zip(data["categories"], part, whole, off, strict=True):
            if all_ and not there:
                notes.append(f"{name} has none of the {all_} objects of {category['name']}.")
            elif abs(points) > _POINTS:
                notes.append(
                    f"The share of {category['name']} in {name} is {abs(points):.1f} points "
                    f"{'above' if points > 0 else 'below'} that in all."
                )
    return notes
