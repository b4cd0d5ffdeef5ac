"""Reader of Roboflow's exports in the format COCO: one file and its images in a folder a split.

Format: https://roboflow.com/formats/coco-json
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from resnest_d2.data.validate.rules import field_fault
from resnest_d2.errors import UserError
from resnest_d2.files import read_json

from .faults import Faults
from .kinds import ROBOFLOW_FILE
from .labelled import Split, named_after


def read_roboflow(source: Path, faults: Faults) -> Iterator[Split]:
    """Reads train, valid and test of an export, or one of these folders.

    Roboflow's category 0 is a root without objects, which is left out. Everything else in the files
    is kept.

    Args:
        source: folder of the export, or of one split.
        faults: takes faulty categories.
    """
    found = {named_after(path.parent): path for path in source.glob(f"*/{ROBOFLOW_FILE}")}
    if (source / ROBOFLOW_FILE).is_file():
        found[named_after(source)] = source / ROBOFLOW_FILE
    if not found:
        raise UserError(f"{source} and its folders have no {ROBOFLOW_FILE}.")
    for (name, split), file in sorted(found.items(), key=_place):
        data = read_json(file)
        if fault := _fault(data):
            faults.add(str(file), fault)
        else:
            used = {annotation["category_id"] for annotation in data["annotations"]}
            categories = [c for c in data["categories"] if c["id"] in used or not _is_root(c, data)]
            data = {**data, "categories": categories}
            yield Split(name, split, file.parent, [c["name"] for c in categories], [], data)


def _place(item: tuple[tuple[str, str], Path]) -> tuple[int, str]:
    order = ("train", "", "val", "test")
    return order.index(item[0][1]), item[0][0]


def _fault(data: Any) -> str | None:
    """What keeps the file from being read; everything else is for check-data."""
    for section in ("images", "annotations", "categories"):
        if not isinstance(data, dict) or not isinstance(data.get(section), list):
            return f"it has no list of {section}"
        for i, entry in enumerate(data[section], 1):
            if fault := field_fault(section, entry):
                return f"its {section} entry {i} {fault}"
    for key, section in (("category_id", "categories"), ("image_id", "images")):
        ids = {entry["id"] for entry in data[section]}
        for i, entry in enumerate(data["annotations"], 1):
            if entry[key] not in ids:
                return f"its annotations entry {i} has {key} {entry[key]}, not among its {section}"
    return None


def _is_root(category: dict, data: dict) -> bool:
    others = (c for c in data["categories"] if c is not category)
    return category["id"] == 0 and all(c.get("supercategory") == category["name"] for c in others)
