"""Images with mistakes: the worst of all, and those of each class and kind for the page's filters.

Classes have their numbers there, so that no name from a file gets into the script's data.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from .analysis import Analysis
from .gather import DataSet
from .images import Outline, Thumbnail, outline_found, outline_truth, thumbnail
from .mistakes import KINDS, JudgedImage, mistakes_text

EACH = 3  # images of each class and of each kind that are chosen at most
BUDGET = 10_000_000  # characters of all images and outlines: a page stays below 15 MB


class Panel(NamedTuple):
    """Outlines on an image, and a caption."""

    caption: str
    outlines: list[Outline]


class Shown(NamedTuple):
    """An image on the page.

    Attributes:
        name: its file.
        text: what is wrong in it.
        thumbnail: the pixels, which all panels share.
        panels: outlines to show on it, side by side.
        mistakes: JSON of the numbers of mistakes by class and kind; "" stands for all classes.
    """

    name: str
    text: str
    thumbnail: Thumbnail
    panels: list[Panel]
    mistakes: str = ""

    @property
    def size(self) -> int:
        """Number of characters on the page."""
        outlines = [outline for panel in self.panels for outline in panel.outlines]
        return len(self.thumbnail.uri) + sum(len(o.path) + len(o.label) + 60 for o in outlines)


class Worst(NamedTuple):
    """Images with mistakes, and what they can be filtered by.

    Attributes:
        first: those with the most mistakes.
        further: the worst of each class and kind among the others.
        classes: number of images of the dataset with mistakes of each class (K,).
        kinds: number of images of the dataset with each kind of mistake, and the kind in words.
    """

    first: list[Shown]
    further: list[Shown]
    classes: list[int]
    kinds: dict[str, tuple[str, int]]


Mistakes = dict[tuple[int | None, str | None], int]  # of a class and kind; None stands for all


def worst_images(
    analysis: Analysis, dataset: DataSet, *, number: int, classes: Mapping[int, str], budget: int
) -> Worst:
    """Images with the most mistakes, each as a panel of annotations and one of detections.

    Args:
        analysis: analysis of the run on the dataset.
        dataset: dataset with the folder of its images.
        number: number of the worst images; images without mistakes are left out.
        classes: class names by id.
        budget: number of characters that further images may fill the page up to.
    """
    numbers = {category: k for k, category in enumerate(analysis.ids)}
    wrong = [image for image in analysis.images if image.mistakes]
    counts = [_mistakes(image, numbers) for image in wrong]
    shown: dict[int, Shown] = {}
    size = 0
    for i in chain(range(len(wrong[:number])), _further(counts)):
        if i not in shown:
            one = _shown(wrong[i], counts[i], dataset, classes)
            size += one.size
            if i >= number and size > budget:
                break
            shown[i] = one
    images = Counter(key for count in counts for key in count)
    return Worst(
        first=[one for i, one in shown.items() if i < number],
        further=[one for i, one in shown.items() if i >= number],
        classes=[images[k, None] for k in range(len(analysis.ids))],
        kinds={kind: (words, images[None, kind]) for kind, words in KINDS.items()},
    )


def _mistakes(image: JudgedImage, numbers: Mapping[int, int]) -> Mistakes:
    found: Mistakes = {(None, kind): number for kind, number in image.mistakes.items()}
    for category, kinds in image.mistakes_by_class.items():
        found[numbers[category], None] = kinds.total()
        found.update({(numbers[category], kind): n for kind, n in kinds.items()})
    return found


def _further(counts: Sequence[Mistakes]) -> Iterator[int]:
    """Indices of the worst images of each class and kind; the first ones matter most."""
    ranked: dict[tuple, list[tuple[int, int]]] = {}
    for i, count in enumerate(counts):
        for key, number in count.items():
            ranked.setdefault(key, []).append((-number, i))
    single = {key: sorted(images)[:EACH] for key, images in ranked.items() if None in key}
    first = [images[0][1] for images in single.values()]
    yield from first
    seen = {key for i in first for key in counts[i]}
    for key, images in ranked.items():
        if key not in seen:  # no image above has this kind of mistake in this class
            i = min(images)[1]
            seen.update(counts[i])
            yield i
    for rank in range(1, EACH):
        yield from (images[rank][1] for images in single.values() if rank < len(images))


def _shown(
    image: JudgedImage, count: Mistakes, dataset: DataSet, classes: Mapping[int, str]
) -> Shown:
    matched = image.matched
    size = thumbnail(matched, os.path.join(dataset.image_root, matched.image["file_name"]))
    table: dict[str, dict[str, int]] = {}
    for (number, kind), n in count.items():
        if kind:
            table.setdefault("" if number is None else str(number), {})[kind] = n
    panels = [
        Panel("annotations", list(outline_truth(image, size, classes))),
        Panel("detections", list(outline_found(image, size, classes))),
    ]
    text = mistakes_text(image.mistakes)
    return Shown(matched.image["file_name"], text, size, panels, json.dumps(table))
