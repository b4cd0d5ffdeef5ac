"""HTML report of one run."""

import base64
import functools
import hashlib
import math
import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup

from resnest_d2.data.coco_api import detection_limit
from resnest_d2.errors import printable
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
    confusions,
    dataset_figures,
    scored_tasks,
    shares,
    task_label,
)
from .threshold import keep_thresholds
from .training import training_figures
from .worst import BUDGET, worst_images

_TEMPLATES = Path(__file__).parent / "templates"
# Enforced by the browser: the page loads nothing, and runs no script but its own.
_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'; script-src {script}"
)


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
        images: number of worst images to show, over all datasets. The worst images of each class
            and kind of mistake are added for the filters.

    Returns:
        Path of the page.

    Raises:
        MissingFileError: results, detections or annotations are missing.
        UserError: no dataset in the results is known.
    """
    run = read_run(output_dir)
    datasets = datasets_of(run) if datasets is None else datasets
    number = max(len(datasets), 1)
    each, budget = math.ceil(images / number), BUDGET // number
    sections = [_section(run, dataset, each, budget) for dataset in datasets]
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
        script=(_TEMPLATES / "filter.js").read_text(encoding="utf-8"),
    )
    thresholds = {s["name"]: s["analysis"].threshold for s in sections if s["analysis"]}
    keep_thresholds(output_dir, thresholds, run.weights)
    return write_page(text, Path(output_dir) / "report.html")


def _section(run: Run, dataset: DataSet, images: int, budget: int) -> dict:
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
    detections = read_detections(run, dataset.name, api)
    plain = {task: metrics for task, metrics in tasks.items() if task in ("bbox", "segm")}
    analysis = analyse(api, detections, list(plain), limit=detections_per_image(run))
    names = {i: category["name"] for i, category in api.cats.items()}
    worst = worst_images(analysis, dataset, number=images, classes=names, budget=budget)
    return {
        **section,
        "analysis": analysis,
        "figures": dataset_figures(analysis, plain),
        "counts": list(analysis.sizes.values()),
        "confusions": confusions(analysis),
        "shares": shares(analysis),
        "classes": class_rows(analysis, plain, worst.classes),
        "task": task_label(analysis.task),
        "worst": worst,
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


@functools.cache  # with its templates, which take long to compile
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value, "\n\t") if type(value) is str else value,
    )
    environment.filters["two_digits"] = _two_digits
    return environment


def render(template: str, *, script: str = "", **values: object) -> str:
    """Renders a template of this package.

    Args:
        template: its name.
        script: the page's own script.
        **values: what the template shows. Control characters of texts are escaped.
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    values["policy"] = _POLICY.format(script=f"'sha256-{digest}'" if script else "'none'")
    page = _environment().get_template(template)
    return page.render(metrics=METRICS, script=Markup(script), **values)


def write_page(text: str, path: Path) -> Path:
    """Write a page atomically.

    Raises:
        WriteError: it cannot be written.
    """
    make_folder(path.parent)
    with whole_file(path, "w") as file:
        file.write(text)
    return path
