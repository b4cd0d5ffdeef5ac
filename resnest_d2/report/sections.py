"""Tables, figures and images of one dataset, for the report's templates."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .analysis import Analysis
from .curves import RECALLS
from .figures import COLOURS, FEW, Figure, Line, draw_bars, draw_lines, draw_matrix
from .matching import OVERLAPS

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
_TASKS = {"bbox": "box", "segm": "mask", "keypoints": "keypoint"}
_TTA = "_TTA"
_BARS, _ROWS, _CURVES = 30, 20, 7  # most classes in a figure
_CONFUSIONS = 10  # rows of their table


class Share(NamedTuple):
    """A part of a whole number of things."""

    part: int
    whole: int

    @property
    def percent(self) -> float:
        """The part in percent; NaN of nothing."""
        return 100 * self.part / self.whole if self.whole else float("nan")


def task_label(task: str) -> str:
    """Label of a task, such as "box" or "mask, TTA"."""
    plain = task.removesuffix(_TTA)
    return _TASKS.get(plain, plain) + (", TTA" if task != plain else "")


def scored_tasks(tasks: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Tasks that have an AP."""
    return {task: metrics for task, metrics in tasks.items() if "AP" in metrics}


def class_ap(metrics: dict[str, float], classes: Sequence[str]) -> list[float]:
    """AP of each class, percent. With a single class the evaluator reports only the overall AP."""
    if len(classes) == 1:
        return [metrics["AP"]]
    return [metrics.get(f"AP-{name}", float("nan")) for name in classes]


def class_rows(
    analysis: Analysis, tasks: dict[str, dict[str, float]], images: Sequence[int]
) -> list[dict[str, Any]]:
    """Rows of the table of classes.

    Args:
        analysis: analysis of the run on the dataset.
        tasks: the evaluator's metrics of each task that has an AP.
        images: number of images with mistakes of each class (K,).
    """
    table = analysis.confusion
    right = np.diag(table)
    scores = {task_label(t): class_ap(m, analysis.classes) for t, m in tasks.items()}
    return [
        {
            "number": k,
            "name": name,
            "images": images[k],
            "annotations": int(table[k, :].sum()),
            "ap": {label: values[k] for label, values in scores.items()},
            "precision": Share(int(right[k]), int(table[:, k].sum())),
            "recall": Share(int(right[k]), int(table[k, :].sum())),
        }
        for k, name in enumerate(analysis.classes)
    ]


def shares(analysis: Analysis) -> dict[str, Share]:
    """Precision and recall over all classes."""
    table = analysis.confusion
    right = int(np.diag(table)[:-1].sum())
    return {
        "precision": Share(right, int(table[:, :-1].sum())),
        "recall": Share(right, int(table[:-1, :].sum())),
    }


def confusions(analysis: Analysis) -> list[tuple[str, str, Share]]:
    """The most frequent confusions: class, detected class, and the share of its annotations.

    Empty for few classes, whose matrix shows all of them.
    """
    if len(analysis.classes) < FEW:
        return []
    table = analysis.confusion[:-1]
    wrong = table[:, :-1] * (1 - np.eye(len(table), dtype=int))
    most = np.argsort(-wrong, axis=None, kind="stable")[:_CONFUSIONS]
    return [
        (analysis.classes[k], analysis.classes[c], Share(int(wrong[k, c]), int(table[k].sum())))
        for k, c in zip(*np.unravel_index(most, wrong.shape), strict=True)
        if wrong[k, c]
    ]


def dataset_figures(analysis: Analysis, tasks: dict[str, dict[str, float]]) -> list[Figure]:
    """Draws all figures of a dataset.

    Args:
        analysis: analysis of the run on this dataset.
        tasks: the evaluator's metrics of each task that has an AP.
    """
    figures = []
    if len(analysis.classes) > 1:
        figures.append(_class_bars(analysis, tasks))
    figures.append(_size_bars(analysis, tasks))
    for task, precision in analysis.curves.items():
        figures += [
            _precision_recall(task, precision[t], overlap=OVERLAPS[t], classes=analysis.classes)
            for t in range(len(OVERLAPS))
        ]
    figures.append(_confusion(analysis))
    if analysis.detections:
        figures.append(_calibration(analysis))
    return figures


def _class_bars(analysis: Analysis, tasks: dict[str, dict[str, float]]) -> Figure:
    values = {task_label(t): class_ap(m, analysis.classes) for t, m in tasks.items()}
    order = list(range(len(analysis.classes)))
    note = ""
    if len(order) > _BARS:
        main = values[task_label(analysis.task)]
        order = sorted(order, key=lambda k: np.nan_to_num(main[k], nan=np.inf))[:_BARS]
        note = f"The {_BARS} lowest of {len(analysis.classes)} classes; the table lists all."
    return draw_bars(
        "AP by class",
        [analysis.classes[k] for k in order],
        {label: [aps[k] for k in order] for label, aps in values.items()},
        xlabel="AP, percent",
        note=note,
    )


def _size_bars(analysis: Analysis, tasks: dict[str, dict[str, float]]) -> Figure:
    keys = ("APs", "APm", "APl")
    return draw_bars(
        "AP by size",
        [f"{size}\n({number:,})" for size, number in analysis.sizes.items()],
        {task_label(t): [m.get(key, float("nan")) for key in keys] for t, m in tasks.items()},
        xlabel="AP, percent",
        note="Small: area below 32 × 32 pixels; large: 96 × 96 pixels or more. The number of "
        "annotations is in brackets.",
    )


def _precision_recall(
    task: str, precision: np.ndarray, *, overlap: float, classes: Sequence[str]
) -> Figure:
    lines = []
    if 1 < len(classes) <= _CURVES:
        lines = [
            Line(name, RECALLS, precision[:, k], {"color": COLOURS[k], "linewidth": 1.2})
            for k, name in enumerate(classes)
        ]
    mean = mean_precision(precision)
    style = {"color": "ink" if lines else COLOURS[0], "linewidth": 2.2}
    lines.append(Line("mean over classes" if len(classes) > 1 else "", RECALLS, mean, style))
    return draw_lines(
        f"Precision and recall, {task_label(task)}, IoU {overlap:g}",
        lines,
        xlabel="recall",
        ylabel="precision",
        limits=(0, 1.03),
        note=f"The area under the {'mean' if len(classes) > 1 else 'curve'} is "
        f"AP{100 * overlap:.0f}: {100 * np.nanmean(precision):.2f}.",
    )


def mean_precision(precision: np.ndarray) -> np.ndarray:
    """Mean over the classes that have annotations, from (R, K) to (R,)."""
    known = ~np.isnan(precision).all(axis=0)
    return precision[:, known].mean(axis=1)


def _confusion(analysis: Analysis) -> Figure:
    table, names = analysis.confusion, [*analysis.classes, "background"]
    note = f"Detections with a score of at least {analysis.threshold:.2f}, at IoU 0.5. "
    if len(analysis.classes) > _ROWS:
        wrong = (table.sum(axis=0) + table.sum(axis=1) - 2 * np.diag(table))[:-1]
        kept = [*sorted(np.argsort(-wrong, kind="stable")[:_ROWS]), len(names) - 1]
        table, names = table[np.ix_(kept, kept)], [names[k] for k in kept]
        note += f"The {_ROWS} of {len(analysis.classes)} classes with the most mistakes. "
    return draw_matrix(
        "Confusion matrix",
        table,
        names,
        labels=("true class", "predicted class"),
        note=note + "Right column: missed objects; bottom row: false detections.",
    )


def _calibration(analysis: Analysis) -> Figure:
    found = analysis.calibration
    lines = [Line("perfect calibration", [0, 1], [0, 1], {"color": "faint"})]
    for t, overlap in enumerate(OVERLAPS):
        style = {"color": COLOURS[t], "marker": "o", "markersize": 4}
        lines.append(Line(f"IoU {overlap:g}", found.score, found.right[t], style))
    return draw_lines(
        "Calibration",
        lines,
        xlabel="score",
        ylabel="share of correct detections",
        limits=(0, 1.03),
        note=f"Below the diagonal the detector is overconfident. Expected calibration error: "
        f"{found.error[0]:.2f} at IoU 0.5, {found.error[1]:.2f} at IoU 0.75.",
    )
