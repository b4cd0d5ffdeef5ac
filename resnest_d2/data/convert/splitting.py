"""Splits a COCO file into training, validation and test sets, or into folds."""

import os
from typing import NamedTuple

import numpy as np

from resnest_d2.errors import UserError
from resnest_d2.files import read_json, write_json_files
from resnest_d2.outputs import require_new

from .duplicates import MAX_DISTANCE, group_images, group_keys
from .sides import Sides, count_objects, describe, side_table
from .stratify import stratify


class Plan(NamedTuple):
    """How to split: shares of validation and test images, or a number of folds.

    ``group_by`` and ``max_distance`` are those of
    :func:`~resnest_d2.data.convert.duplicates.group_keys` and
    :func:`~resnest_d2.data.convert.duplicates.group_images`.
    """

    val: float = 0.2
    test: float = 0.0
    folds: int = 0
    seed: int = 0
    group_by: str | None = None
    max_distance: int = MAX_DISTANCE

    def sides(self) -> dict[str, float]:
        """Share of each side by its name; with folds, fold_1 is the validation set of fold 1.

        Raises:
            UserError: shares that leave nothing to train on, or a single fold.
        """
        if self.folds:
            if self.folds < 2:
                raise UserError(f"--folds is {self.folds}; give at least 2.")
            sides = {f"fold_{i}": (1 - self.test) / self.folds for i in range(1, self.folds + 1)}
        else:
            if not self.val > 0:
                raise UserError(f"--val is {self.val:g}; give a share of the images, such as 0.2.")
            sides = {"train": 1 - self.val - self.test, "val": self.val}
        if not (self.test >= 0 and min(sides.values()) > 0):
            given = f"--test {self.test:g}" + ("" if self.folds else f" and --val {self.val:g}")
            raise UserError(
                f"{given} leave no images to train on; they are shares of the images, such as 0.1."
            )
        return sides | ({"test": self.test} if self.test else {})


class SplitFiles(NamedTuple):
    """Written files, the table of classes by side, notes, and whether all objects have masks."""

    files: list[str]
    table: str
    notes: list[str]
    masks: bool


def assign(data: dict, image_root: str, plan: Plan, *, progress: bool = True) -> Sides:
    """Assigns the images of a sound COCO file to sides.

    Args:
        data: contents of the file.
        image_root: folder of its images.
        plan: how to split.
        progress: show a progress bar.

    Raises:
        MissingPackageError: imagehash is not installed, and near-duplicates are looked for.
        UserError: an impossible plan, or too few images for it.
    """
    shares, images = plan.sides(), data["images"]
    paths = [os.path.join(image_root, image["file_name"]) for image in images]
    keys = group_keys(images, plan.group_by)
    groups = group_images(paths, keys, max_distance=plan.max_distance, progress=progress)
    number = int(groups.max(initial=-1)) + 1
    if number < len(shares):
        raise UserError(
            f"{len(images)} images in {number} groups of near-duplicates and of --group-by cannot "
            f"be split into {len(shares)} sets; lower --max-distance or give --ignore-duplicates."
        )
    counts = np.zeros((number, len(data["categories"]) + 2))
    np.add.at(counts, groups, count_objects(data))
    of_group = stratify(counts, list(shares.values()), seed=plan.seed)
    sides = Sides(list(shares), list(shares.values()), of_group[groups], groups)
    for i, name in enumerate(sides.names):
        if not (sides.of_image == i).any():
            raise UserError(f"{len(images)} images are too few: {name} would be empty.")
    return sides


def select(data: dict, chosen: np.ndarray) -> dict:
    """The file with some of its images, (N,) of bool, and their annotations; the rest as it is."""
    images = [image for image, kept in zip(data["images"], chosen, strict=True) if kept]
    ids = {image["id"] for image in images}
    found = {"images": images}
    if "annotations" in data:
        found["annotations"] = [a for a in data["annotations"] if a["image_id"] in ids]
    return {**data, **found}


def targets_of(sides: Sides, output: str) -> dict[str, np.ndarray]:
    """Path of each file to write, and the images in it (N,) of bool."""
    targets = {}
    in_folds = np.array([name != "test" for name in sides.names])[sides.of_image]
    for i, name in enumerate(sides.names):
        own = sides.of_image == i
        if name.startswith("fold_"):
            targets[os.path.join(output, name, "train.json")] = in_folds & ~own
            targets[os.path.join(output, name, "val.json")] = own
        else:
            targets[os.path.join(output, f"{name}.json")] = own
    return targets


def split_data(
    json_file: str, image_root: str, plan: Plan, *, output: str, overwrite: bool = False
) -> SplitFiles:
    """Splits a COCO file; images stay where they are, and all other fields are kept.

    Args:
        json_file: path of the file.
        image_root: folder of its images.
        plan: how to split.
        output: folder for train.json, val.json, test.json, or fold_1/train.json and so on.
        overwrite: replace existing files.

    Raises:
        OutputExistsError: an output exists.
        MissingFileError: no such file or folder.
        MissingPackageError: imagehash is not installed, and near-duplicates are looked for.
        WriteError: an output cannot be written; then none is.
        UserError: a faulty file, or an impossible plan.
    """
    from resnest_d2.data.coco import read_coco  # brings torch

    nothing = np.zeros(0, int)
    targets = list(targets_of(Sides(list(plan.sides()), [], nothing, nothing), output))
    require_new(targets, overwrite=overwrite, sources=[json_file])
    facts = read_coco(json_file, image_root)
    data = read_json(json_file)
    sides = assign(data, image_root, plan)
    chosen = targets_of(sides, output)
    write_json_files({target: select(data, own) for target, own in chosen.items()})
    notes = describe(data, sides)
    if old := sorted(_of_other_splits(output) - set(targets)):
        notes.append(f"Of an earlier split, which can share images with this: {', '.join(old)}.")
    return SplitFiles(targets, side_table(data, sides), notes, facts.mask_format != "")


def _of_other_splits(output: str) -> set[str]:
    names = [f"{name}.json" for name in ("train", "val", "test")]
    folds = [n for n in os.listdir(output) if n.startswith("fold_")]
    names += [os.path.join(fold, name) for fold in folds for name in ("train.json", "val.json")]
    return {path for name in names if os.path.isfile(path := os.path.join(output, name))}
