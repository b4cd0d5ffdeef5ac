"""HTML report of one run."""

import math
import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

import jinja2

from resnest_d2.data.coco_api import detection_limit
from resnest_d2.files import make_folder, whole_file

from .analysis import analyse
from .gather import (
    DataSet,
    Run,
    datasets_of,
    detections_per_image,
    detector_classes,
    match_notes,
    read_annotations,
    read_detections,
    read_run,
)
from .run_config import config_of
from .sections import (
    METRICS,
    class_rows,
    dataset_figures,
    scored_tasks,
    task_label,
    worst_images,
)
from .threshold import keep_thresholds
from .training import training_figures


def write_report(
    output_dir: str,
    *,
    datasets: Sequence[DataSet] | None = None,
    command: str = "",
    images: int = 20,
) -> Path:
    """Writes ``report.html`` into a run's folder, as one self-contained file.

    Args:
        output_dir: folder of the run, with results.json and inference/; metrics.json and
            config.yaml are optional.
        datasets: datasets to report on; by default those in results.json.
        command: command that started the run, if known.
        images: number of worst images to show, over all datasets.

    Returns:
        Path of the page.

    Raises:
        MissingFileError: results, detections or annotations are missing.
        UserError: no dataset in the results is known.
    """
    run = read_run(output_dir)
    datasets = datasets_of(run) if datasets is None else datasets
    each = math.ceil(images / max(len(datasets), 1))
    sections = [_section(run, dataset, each) for dataset in datasets]
    text = render(
        "report.html.j2",
        title=run_name(output_dir),
        facts=describe(run),
        run=run,
        limit=detection_limit(detections_per_image(run)),
        sections=sections,
        training=training_figures(run),
        config=run.config,
        command=command,
        repeat=repeat_command(run),
    )
    thresholds = {s["name"]: s["analysis"].threshold for s in sections if s["analysis"]}
    keep_thresholds(output_dir, thresholds, run.weights)
    return write_page(text, Path(output_dir) / "report.html")


def _section(run: Run, dataset: DataSet, images: int) -> dict:
    tasks, last = (
        scored_tasks(results.get(dataset.name, {})) for results in (run.results, run.last)
    )
    classes = detector_classes(run, dataset)
    api = read_annotations(dataset.json_file, classes)
    section = {
        "notes": match_notes(dataset.json_file, classes),
        "name": dataset.name,
        "number": {"images": len(api.imgs), "annotations": len(api.anns)},
        "tasks": {task_label(task): metrics for task, metrics in tasks.items()},
        "last": {task_label(task): metrics for task, metrics in last.items()},
    }
    if not tasks or all(annotation["iscrowd"] for annotation in api.anns.values()):
        return {**section, "analysis": None}
    detections = read_detections(run, dataset.name)
    plain = {task: metrics for task, metrics in tasks.items() if task in ("bbox", "segm")}
    analysis = analyse(api, detections, list(plain), limit=detections_per_image(run))
    names = {i: category["name"] for i, category in api.cats.items()}
    return {
        **section,
        "analysis": analysis,
        "figures": dataset_figures(analysis, plain),
        "classes": class_rows(analysis, plain),
        "task": task_label(analysis.task),
        "images": worst_images(analysis, dataset, number=images, classes=names),
    }


def run_name(folder: str) -> str:
    """Name of a run: the last part of its folder's path."""
    return os.path.basename(os.path.abspath(folder))


def describe(run: Run) -> dict[str, str]:
    """Facts about a run for the top of its page, by their label."""
    facts = {}
    if keys := config_of(run).get("MODEL"):
        depth = keys.get("RESNETS", {}).get("DEPTH")
        facts["Model"] = f"{keys.get('META_ARCHITECTURE')}, ResNeSt-{depth}"
        if run.history:
            facts["Initial weights"] = keys.get("WEIGHTS") or "random weights"
    if run.weights:
        facts["Evaluated weights"] = run.weights
    if iterations := [step["iteration"] for step in run.history if "total_loss" in step]:
        facts["Trained"] = f"{iterations[-1] + 1:,} iterations"
        planned = config_of(run).get("SOLVER", {}).get("MAX_ITER", 0)
        if planned > iterations[-1] + 1:
            facts["Trained"] += f" of {planned:,}"
    return {**facts, "Folder": run.folder, "Written": time.strftime("%Y-%m-%d %H:%M")}


def repeat_command(run: Run) -> str:
    """Command that repeats the training or evaluation; empty without a config.yaml."""
    if not run.config:
        return ""
    path = shlex.quote(os.path.join(run.folder, "config.yaml"))
    if run.history:
        return f"resnest-d2 train {path} --output output/again"
    return f"resnest-d2 eval {path} --output output/again"


def _two_digits(value: float | None, *, sign: bool = False) -> str:
    """Formats a value as the log's table does; "–" for a missing one."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value:+.2f}" if sign else f"{value:.2f}"


def render(template: str, **values: object) -> str:
    """Renders a template of this package."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["two_digits"] = _two_digits
    return environment.get_template(template).render(metrics=METRICS, **values)


def write_page(text: str, path: Path) -> Path:
    """Write a page atomically.

    Raises:
        WriteError: it cannot be written.
    """
    make_folder(path.parent)
    with whole_file(path, "w") as file:
        file.write(text)
    return path
