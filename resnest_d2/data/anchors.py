"""Anchors fitted to training boxes: k-means of their sizes and shapes, and the recall they reach.

A detector's anchors lie on a grid in every level. A box is recalled if one of them overlaps it with
an IoU of :data:`MATCH` or more; the grid counts, so that anchors that are small for their stride
lose the boxes between two cells.

Shapes: M boxes, T anchors of a level's cell.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.structures import BoxMode

MATCH = 0.5  # IoU from which a box counts as recalled
_COARSEST = (
    16  # size in strides above which a box's level is too fine; twice that of COCO's configs
)
_TRIED_ON = 5000  # boxes that the candidates are compared on
_ITERATIONS = 100  # of k-means, which ends earlier


class ResizedBoxes(NamedTuple):
    """Training boxes in pixels of the resized images.

    Attributes:
        corners: (M, 4) as x0, y0, x1, y1.
        images: (M, 2) width and height of each box's image.
    """

    corners: np.ndarray
    images: np.ndarray


class AnchorGrid(NamedTuple):
    """Where a detector's anchors lie: detectron2's grid of an image alone in its batch.

    Attributes:
        strides: pixels between the cells of each level.
        offset: of the first cell's centre, in strides: MODEL.ANCHOR_GENERATOR.OFFSET.
        divisibility: images are padded to a multiple of it; 0 if they are not.
    """

    strides: Sequence[int]
    offset: float = 0.0
    divisibility: int = 0


class LevelAnchors(NamedTuple):
    """Anchors of a cell: sizes, the roots of their areas in pixels, and ratios, height to width.

    Both are lists of lists, one a level, as MODEL.ANCHOR_GENERATOR has them.
    """

    sizes: list[list[float]]
    ratios: list[list[float]]


class FoundAnchors(NamedTuple):
    """Anchors of k-means, and the shares of boxes that they and the ones before recall (0 .. 1)."""

    anchors: LevelAnchors
    recall: float
    before: float


def resize_boxes(
    records: Sequence[dict[str, Any]], short_edges: Sequence[int], max_size: int
) -> ResizedBoxes:
    """Boxes as a training sees them, crowds and boxes without area left out.

    Args:
        records: images with annotations, in detectron2's form.
        short_edges: sizes of the shorter side in pixels; each box is returned once for each. 0 does
            not resize.
        max_size: limit of the longer side in pixels.
    """
    corners, images = [np.zeros((0, 4))], [np.zeros((0, 2))]
    for record in records:
        objects = [a for a in record.get("annotations", ()) if not a.get("iscrowd")]
        height, width = record["height"], record["width"]
        for mode in sorted({a["bbox_mode"] for a in objects}):
            boxes = np.array([a["bbox"] for a in objects if a["bbox_mode"] == mode], float)
            boxes = BoxMode.convert(boxes, mode, BoxMode.XYXY_ABS)
            boxes = boxes.clip(0, (width, height, width, height))
            boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(1)]
            for edge in short_edges:
                size = _resized(height, width, edge, max_size)
                corners.append(boxes * np.tile(size / (width, height), 2))
                images.append(np.broadcast_to(size, (len(boxes), 2)))
    return ResizedBoxes(np.concatenate(corners), np.concatenate(images))


def _resized(height: int, width: int, short_edge: int, max_size: int) -> np.ndarray:
    """(2,) width and height, as :class:`resnest_d2.data.resize.PilResizeShortestEdge` gives."""
    if not short_edge:
        return np.array([width, height])
    new = ResizeShortestEdge.get_output_shape(height, width, short_edge, max_size)
    return np.maximum(new[::-1], 1)


def best_overlaps(boxes: ResizedBoxes, anchors: LevelAnchors, grid: AnchorGrid) -> np.ndarray:
    """IoU of each box with the best of all anchors of its image.

    Overlap falls with the distance in x and in y, so the best anchor of a shape is that of the
    nearest cell.

    Returns:
        (M,) in 0 .. 1.
    """
    sides = boxes.corners[:, 2:] - boxes.corners[:, :2]  # (M, 2)
    centres = boxes.corners[:, :2] + sides / 2
    padded = boxes.images
    if grid.divisibility:
        padded = np.ceil(padded / grid.divisibility) * grid.divisibility
    areas, best = sides.prod(1), np.zeros(len(sides))
    for stride, sizes, ratios in zip(grid.strides, *anchors, strict=True):
        last = np.ceil(padded / stride) - 1
        cells = np.rint(centres / stride - grid.offset).clip(0, last)
        away = np.abs(centres - (cells + grid.offset) * stride)  # (M, 2)
        for size, ratio in itertools.product(sizes, ratios):
            shape = size * np.sqrt([1 / ratio, ratio])
            inside = np.minimum((shape + sides) / 2 - away, np.minimum(shape, sides)).clip(0)
            inside = inside.prod(1)
            best = np.maximum(best, inside / (areas + size**2 - inside))
    return best


def find_anchors(boxes: ResizedBoxes, before: LevelAnchors, grid: AnchorGrid) -> FoundAnchors:
    """The anchors of k-means that recall the most boxes, as many a cell as before.

    Sizes and ratios are clustered as logarithms, into as many clusters as there are anchors and
    into fewer, which are given to every run of levels; sizes of other levels continue them in the
    steps of the anchors before. All are compared on their grid, by recall and then by mean IoU.

    Args:
        boxes: at least one.
        before: as many sizes, and as many ratios, in each level.
        grid: of ``before``.
    """
    sides = boxes.corners[:, 2:] - boxes.corners[:, :2]
    number, levels = len(before.sizes[0]), len(before.sizes)
    step = (before.sizes[-1][-1] / before.sizes[0][0]) ** (1 / max(1, levels * number - 1))
    limits = np.repeat(np.array(grid.strides, float) * _COARSEST, number)
    limits[-number:] = np.inf  # no level is coarser
    every = max(1, len(sides) // _TRIED_ON)
    some = ResizedBoxes(boxes.corners[::every], boxes.images[::every])
    best, score = before, (-1.0, -1.0)
    free = np.full(len(before.ratios[0]), np.inf)
    for sizes, ratios in itertools.product(
        _spread(np.log(sides.prod(1)) / 2, np.log(limits), step if step > 1 else 2),
        _spread(np.log(sides[:, 1] / sides[:, 0]), free, 2),
    ):
        anchors = LevelAnchors(
            [sizes[i : i + number] for i in range(0, len(sizes), number)], [ratios] * levels
        )
        overlaps = best_overlaps(some, anchors, grid)
        new = (round(float((overlaps >= MATCH).mean()), 3), float(overlaps.mean()))
        if new > score:
            best, score = anchors, new
    recall, old = (float((best_overlaps(boxes, a, grid) >= MATCH).mean()) for a in (best, before))
    return FoundAnchors(best, recall, old)


def _spread(values: np.ndarray, limits: np.ndarray, step: float) -> Iterator[list[float]]:
    """Ascending numbers whose logarithms are centres of clusters, and continue them.

    Args:
        values: (M,) logarithms.
        limits: (T,) the highest centre at each place.
        step: factor between two of those that continue the centres.
    """
    for number in range(1, len(limits) + 1):
        centres = cluster(values, number)
        if len(centres) < number:
            return
        for below in range(len(limits) - number + 1):
            if (centres > limits[below : below + number]).any():
                continue
            above = len(limits) - number - below
            lower = centres[0] - math.log(step) * np.arange(below, 0, -1)
            upper = centres[-1] + math.log(step) * np.arange(1, above + 1)
            yield [float(f"{math.exp(v):.3g}") for v in (*lower, *centres, *upper)]


def cluster(values: np.ndarray, number: int) -> np.ndarray:
    """Centres of k-means on a line (Lloyd's iteration), ascending.

    It starts from values at equal distances in the order of the distinct ones, so that the same
    values give the same centres.

    Args:
        values: (M,) at least one.
        number: number of clusters.

    Returns:
        (number,), or all distinct values if there are fewer.
    """
    values, distinct = np.sort(values), np.unique(values.round(6))
    if len(distinct) <= number:
        return distinct
    centres = distinct[((np.arange(number) + 0.5) * len(distinct) / number).astype(int)]
    sums = np.concatenate([[0], np.cumsum(values)])
    for _ in range(_ITERATIONS):
        inner = np.searchsorted(values, (centres[1:] + centres[:-1]) / 2)
        edges = np.array([0, *inner, len(values)])  # of the clusters among the values
        counts = np.diff(edges)
        means = np.where(counts, np.diff(sums[edges]) / counts.clip(1), centres)
        if np.array_equal(means, centres):
            break
        centres = means
    return centres
