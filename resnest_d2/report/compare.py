"""HTML page that compares two runs."""

import os
from collections.abc import Iterator
from pathlib import Path

from resnest_d2.errors import UserError

from .analysis import Analysis, analyse
from .curves import RECALLS
from .figures import COLOURS, Figure, Line, draw_bars, draw_lines
from .gather import (
    DataSet,
    Run,
    datasets_of,
    detections_per_image,
    detector_classes,
    read_annotations,
    read_detections,
    read_run,
)
from .html import describe, render, repeat_command, run_name, write_page
from .images import outline_found, outline_truth, thumbnail
from .matching import OVERLAPS
from .mistakes import mistakes_text
from .run_config import config_of
from .sections import METRICS, class_ap, mean_precision, scored_tasks, task_label
from .training import ap_lines, history_line
from .worst import Panel, Shown

_BARS = 30  # most classes in a figure


def write_comparison(run_a: str, run_b: str, path: str, *, images: int = 10) -> Path:
    """Writes a page that compares two runs, as one self-contained HTML file.

    Args:
        run_a: OUTPUT_DIR of the baseline run.
        run_b: OUTPUT_DIR of the other run; differences are ``run_b`` minus ``run_a``.
        path: file to write.
        images: number of images to show for each dataset; those that changed most come first.

    Returns:
        Path of the page.

    Raises:
        MissingFileError: results, detections or annotations are missing.
        UserError: the runs have no dataset in common, or the same name means different data.
    """
    runs = [read_run(folder) for folder in (run_a, run_b)]
    common = [d for d in datasets_of(runs[0]) if d.name in runs[1].results]
    if not common:
        raise UserError(
            f"{run_a} was evaluated on {', '.join(runs[0].results)}, {run_b} on "
            f"{', '.join(runs[1].results)}: there is nothing to compare. Evaluate both on the same "
            "dataset."
        )
    others = {d.name: d for d in datasets_of(runs[1])}
    for dataset in common:
        _check_same(dataset, others.get(dataset.name, dataset))
    names = _names(runs)
    text = render(
        "compare.html.j2",
        title=" and ".join(names),
        names=names,
        facts=[describe(run) for run in runs],
        sections=[_section(runs, names, d, images=images) for d in common],
        training=_training(runs, names),
        config=list(config_differences(runs)),
        commands=[repeat_command(run) for run in runs],
    )
    return write_page(text, Path(path))


def _check_same(first: DataSet, second: DataSet) -> None:
    """Raises an error if one name means different images or categories in the two runs."""
    if first.json_file == second.json_file:
        return
    contents = [
        (set(api.imgs), {i: category["name"] for i, category in api.cats.items()})
        for api in (read_annotations(d.json_file) for d in (first, second))
    ]
    if contents[0] != contents[1]:
        raise UserError(
            f"{first.name} is {first.json_file} in one run and {second.json_file} in the other, "
            "with other images or categories. Evaluate both on the same file with "
            "`resnest-d2 eval RUN --data JSON FOLDER`."
        )


def _names(runs: list[Run]) -> list[str]:
    """Names of the runs' folders, or their full paths if the names are equal."""
    names = [run_name(run.folder) for run in runs]
    return names if names[0] != names[1] else [run.folder for run in runs]


def _section(runs: list[Run], names: list[str], dataset: DataSet, *, images: int) -> dict:
    tasks = [scored_tasks(run.results[dataset.name]) for run in runs]
    shared = [task for task in tasks[0] if task in tasks[1]]
    apis = [read_annotations(dataset.json_file, detector_classes(run, dataset)) for run in runs]
    names_of = [{category["name"] for category in api.cats.values()} for api in apis]
    section = {
        "name": dataset.name,
        "differing": sorted(names_of[0] ^ names_of[1]),
        "rows": [
            (task_label(task), metric, tasks[0][task].get(metric), tasks[1][task].get(metric))
            for task in shared
            for metric in METRICS
        ],
        "figures": [],
        "images": [],
    }
    scored = [task for task in shared if task in ("bbox", "segm")]
    if not all(api.anns for api in apis) or not scored:
        return section
    found = []
    for run, api in zip(runs, apis, strict=True):
        detections = read_detections(run, dataset.name, api)
        found.append(analyse(api, detections, scored, limit=detections_per_image(run)))
    main = [t[found[0].task] for t in tasks]
    figures = [
        _curve(found, names, task=task, t=t) for task in scored for t in range(len(OVERLAPS))
    ]
    shared_classes = [name for name in found[0].classes if name in found[1].classes]
    if len(shared_classes) > 1:
        figures.insert(0, _class_differences(main, names, shared_classes, task=found[0].task))
    classes = {i: category["name"] for api in apis for i, category in api.cats.items()}
    changed = _changed(found, names, dataset, number=images, classes=classes)
    thresholds = [analysis.threshold for analysis in found]
    return {**section, "figures": figures, "images": list(changed), "thresholds": thresholds}


def _class_differences(
    main: list[dict], names: list[str], classes: list[str], *, task: str
) -> Figure:
    aps = [class_ap(metrics, classes) for metrics in main]
    change = {n: b - a for n, a, b in zip(classes, *aps, strict=True) if b == b and a == a}
    shown = sorted(change, key=lambda name: -abs(change[name]))[:_BARS]
    shown.sort(key=lambda name: -change[name])
    left_out = len(change) - len(shown)
    return draw_bars(
        f"{task_label(task)} AP by class, {names[1]} minus {names[0]}",
        shown,
        {"difference": [change[name] for name in shown]},
        xlabel="AP, percent",
        note=f"{left_out} classes with smaller changes are not shown." if left_out else "",
    )


def _curve(found: list[Analysis], names: list[str], *, task: str, t: int) -> Figure:
    lines = [
        Line(name, RECALLS, mean_precision(analysis.curves[task][t]))
        for name, analysis in zip(names, found, strict=True)
        if task in analysis.curves
    ]
    return draw_lines(
        f"Precision and recall, {task_label(task)}, IoU {OVERLAPS[t]:g}",
        lines,
        xlabel="recall",
        ylabel="precision",
        limits=(0, 1.03),
        note="Mean over the classes." if len(found[0].classes) > 1 else "",
    )


def _training(runs: list[Run], names: list[str]) -> list[Figure]:
    losses = [history_line(run, "total_loss", name) for run, name in zip(runs, names, strict=True)]
    aps = [
        line._replace(style={**line.style, "color": COLOURS[i], "linestyle": dash})
        for i, (run, name) in enumerate(zip(runs, names, strict=True))
        for line, dash in zip(ap_lines(run, name), "- -- -. :".split() * 9, strict=False)
    ]
    drawn = (("Total loss", "loss", [line for line in losses if line]), ("AP", "AP, percent", aps))
    return [
        draw_lines(title, lines, xlabel="iteration", ylabel=label)
        for title, label, lines in drawn
        if lines
    ]


def _changed(
    found: list[Analysis],
    names: list[str],
    dataset: DataSet,
    *,
    number: int,
    classes: dict[int, str],
) -> Iterator[Shown]:
    """Images whose number of mistakes changed, by the size of the change."""
    first, second = (
        {image.matched.image["id"]: image for image in analysis.images} for analysis in found
    )
    change = {i: second[i].mistakes.total() - first[i].mistakes.total() for i in first}
    for i in sorted(change, key=lambda i: (-abs(change[i]), i))[:number]:
        if not change[i]:
            break
        record = first[i].matched.image
        size = thumbnail(first[i].matched, os.path.join(dataset.image_root, record["file_name"]))
        panels = []
        for name, image in zip(names, (first[i], second[i]), strict=True):
            truth = outline_truth(image, size, classes)
            missed = [outline for outline in truth if outline.kind == "missed"]
            outlines = [*missed, *outline_found(image, size, classes)]
            panels.append(Panel(f"{name}: {mistakes_text(image.mistakes)}", outlines))
        words = "more" if change[i] > 0 else "fewer"
        text = f"{abs(change[i])} {words} mistakes with {names[1]}"
        yield Shown(record["file_name"], text, size, panels)


def config_differences(runs: list[Run]) -> Iterator[tuple[str, str, str]]:
    """Keys that differ between two runs' configs, with both values; "–" if a run lacks the key.

    OUTPUT_DIR always differs and is skipped.
    """
    first, second = (dict(_leaves(config_of(run))) for run in runs)
    for key in sorted({*first, *second} - {"OUTPUT_DIR"}):
        values = [str(keys[key]) if key in keys else "–" for keys in (first, second)]
        if values[0] != values[1]:
            yield key, values[0], values[1]


def _leaves(node: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
