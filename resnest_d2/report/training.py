"""Figures of the training: losses, AP and learning rate by iteration."""

from .figures import COLOURS, Figure, Line, draw_lines
from .gather import Run
from .sections import scored_tasks, task_label

_MARKED = {"marker": "o", "markersize": 4}  # evaluations


def training_figures(run: Run) -> list[Figure]:
    """Draws losses, AP and learning rate by iteration; empty without metrics.json."""
    figures = []
    names = sorted({n for step in run.history for n in step if n.startswith("loss_")})
    if losses := history_line(run, "total_loss", "total"):
        lines = [losses._replace(style={"color": "ink", "linewidth": 2.2})]
        for i, name in enumerate(names):
            style = {"linewidth": 1, "linestyle": "-" if i < len(COLOURS) else "--"}
            if line := history_line(run, name, name.removeprefix("loss_")):
                lines.append(line._replace(style={"color": COLOURS[i % len(COLOURS)], **style}))
        if line := history_line(run, "validation/total_loss", "total, validation"):
            lines.insert(1, line._replace(style={"color": "ink", **_MARKED, "linestyle": "--"}))
        figures.append(
            draw_lines("Losses", lines, xlabel="iteration", ylabel="loss", limits=(0, None))
        )
    if lines := ap_lines(run):
        figures.append(
            draw_lines("AP by iteration", lines, xlabel="iteration", ylabel="AP, percent")
        )
    if line := history_line(run, "lr", ""):
        labels = {"xlabel": "iteration", "ylabel": "learning rate"}
        figures.append(draw_lines("Learning rate", [line], **labels, limits=(0, None)))
    return figures


def ap_lines(run: Run, label: str = "") -> list[Line]:
    """AP by iteration, a line for each dataset and task evaluated more than once."""
    several = len(run.results) > 1
    lines = []
    for name, tasks in run.results.items():
        for task in scored_tasks(tasks):
            key, words = f"{task}/AP", [label, task_label(task)]
            if several:
                key, words = f"{name}/{key}", [label, name, task_label(task)]
            line = history_line(run, key, " ".join(filter(None, words)))
            if line and len(line.x) > 1:
                lines.append(line._replace(style=_MARKED))
    return lines


def history_line(run: Run, key: str, label: str) -> Line | None:
    """A metric by number of iterations trained; None if the run did not record it."""
    steps = [step for step in run.history if key in step]
    if not steps:
        return None
    # Iterations are counted from 0; what follows the last one has a number of its own.
    trained = [step["iteration"] + ("total_loss" in step) for step in steps]
    return Line(label, trained, [step[key] for step in steps])
