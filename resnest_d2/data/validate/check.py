"""Check of a dataset: annotation files, images, classes and anchors."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from tabulate import tabulate

from resnest_d2.data.normalise import shown
from resnest_d2.errors import MissingFileError, UserError, printable

from .entries import AnnotationFile, check_entries, read_annotations, sound_entries
from .findings import Finding, listed
from .images import check_images
from .statistics import Anchors, ClassFacts, check_anchors, describe_classes

_ALONE = 3  # findings of one kind in a file that have rows of their own
_SEVERITIES = ("error", "warning", "note")


class DataCheck(NamedTuple):
    """Findings of a check, worst first, and the classes of every file."""

    files: tuple[AnnotationFile, ...]
    findings: tuple[Finding, ...]
    classes: tuple[ClassFacts, ...]

    def passes(self, *, strict: bool = False) -> bool:
        """Whether there are no errors and, if strict, no warnings."""
        bad = _SEVERITIES[: 2 if strict else 1]
        return not any(finding.severity in bad for finding in self.findings)

    def summary(self) -> str:
        """Number of findings of each severity, in one line."""
        counts = Counter(finding.severity for finding in self.findings)
        said = [f"{counts[s]} {s}{'' if counts[s] == 1 else 's'}" for s in _SEVERITIES]
        images = sum(len(file.data["images"]) for file in self.files)
        objects = sum(len(file.data["annotations"]) for file in self.files)
        return f"{', '.join(said)} in {images} images with {objects} annotations."

    def table(self, limit: int | None = None) -> str:
        """Table of findings; more than three of a kind in a file take one row.

        Args:
            limit: number of rows to show.
        """
        groups: dict[tuple[str, str], list[Finding]] = {}
        for finding in self.findings:
            groups.setdefault((finding.kind, finding.file), []).append(finding)
        rows = [row for group in groups.values() for row in rows_of(group)]
        text = tabulate(rows[:limit], ("severity", "kind", "file", "entry", "reason"))
        more = len(rows) - len(rows[:limit])
        return text + (f"\n... and {more} more" if more else "")

    def class_table(self) -> str:
        """Table of the objects of each class: number, size, and share that anchors match."""
        headers = ["file", "class", "objects", "images", "share", "median side"]
        with_anchors = any(facts.overlaps is not None for facts in self.classes)
        rows = []
        for c in self.classes:
            row = [c.file, shown(c.name), c.objects, c.images, f"{c.share:.1%}", f"{c.side:.0f} px"]
            if with_anchors:
                met = c.overlaps if c.overlaps is not None and c.objects else np.zeros(1)
                parts = [(met >= t).mean() for t in (0.5, 0.7)]
                row += [f"{part:.0%}" for part in parts]
            rows.append(row)
        return tabulate(rows, headers + ["anchor IoU >= 0.5", ">= 0.7"] * with_anchors)


def rows_of(findings: list[Finding]) -> list[tuple]:
    """Severity, kind, file, entry and reason of alike findings, in one row if there are many."""
    first = findings[0]
    if len(findings) <= _ALONE:
        return [(f.severity, f.kind, f.file, f.entry, printable(f.reason)) for f in findings]
    what = first.entry.rpartition(" ")[0]
    entry = f"{what} {listed([f.entry.rpartition(' ')[2] for f in findings])}"
    reason = printable(f"{len(findings)} of them, the first: {first.reason}")
    return [(first.severity, first.kind, first.file, entry, reason)]


def pair_paths(paths: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs annotation files with the folders of their images.

    A folder belongs to the file before it. A file without a folder uses the previous file's folder.

    Args:
        paths: files and folders, such as ``["train.json", "images", "val.json"]``.

    Raises:
        MissingFileError: no such file or folder.
        UserError: a folder before the first file, two for one, or none at all.
    """
    pairs: list[list[str]] = []
    for path in map(str, paths):
        if not os.path.exists(path):
            raise MissingFileError(f"There is no file or folder {path}.")
        if not os.path.isdir(path):
            pairs.append([path])
        elif not pairs or len(pairs[-1]) == 2:
            raise UserError(f"The folder {path} follows no annotation file; give the file first.")
        else:
            pairs[-1].append(path)
    for i, pair in enumerate(pairs):
        if len(pair) == 1 and i == 0:
            raise UserError(f"{pair[0]} is without images; give their folder after it.")
        if len(pair) == 1:
            pair.append(pairs[i - 1][1])
    return [(json_file, folder) for json_file, folder in pairs]


def check_data(
    pairs: Sequence[tuple[str, str]],
    *,
    anchors: Anchors | None = None,
    detections: int = 100,
    progress: bool = True,
) -> DataCheck:
    """Checks annotation files and decodes all of their images. Nothing is changed.

    Args:
        pairs: annotation files and folders of their images, the training set first.
        anchors: anchors to compare object sizes with.
        detections: TEST.DETECTIONS_PER_IMAGE, the most objects that are found in an image.
        progress: show a progress bar.

    Raises:
        MissingFileError: no such file or folder.
        UserError: a file given twice.
    """
    names = [json_file for json_file, _ in pairs]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(f"{', '.join(twice)} is given twice; give each annotation file once.")
    files, findings = [], []
    for json_file, folder in pairs:
        try:
            files.append(read_annotations(json_file, folder))
        except MissingFileError:
            raise
        except UserError as error:
            findings.append(Finding("file", json_file, "", str(error)))
    findings += check_entries(files)
    findings += check_images(files, progress=progress)
    findings += _check_numbers(files, detections)
    classes = describe_classes(files, anchors)
    findings += check_anchors(classes)
    findings.sort(key=lambda finding: _SEVERITIES.index(finding.severity))
    return DataCheck(tuple(files), tuple(findings), tuple(classes))


def _check_numbers(files: list[AnnotationFile], detections: int) -> Iterator[Finding]:
    """Finds images with more objects than detections; the evaluation reports them too."""
    for file in files:
        objects = [a for _, a in sound_entries(file, "annotations") if a.get("iscrowd") != 1]
        counts = Counter(a["image_id"] for a in objects)
        if many := [id_ for id_, count in counts.items() if count > detections]:
            reason = (
                f"{len(many)} with more than {detections} objects, up to {max(counts.values())}, "
                "which cannot all be found; set TEST.DETECTIONS_PER_IMAGE"
            )
            yield Finding("many objects", file.json_file, f"image id {listed(many)}", reason)
