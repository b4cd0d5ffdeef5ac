"""Training and evaluation in Python, as the commands do them.

``run = resnest_d2.train("faster_rcnn_s50", data="train.json", val="val.json", output="mine")``
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resnest_d2.config import load_config
from resnest_d2.data.coco import forget_datasets
from resnest_d2.data.entries import Paths
from resnest_d2.deploy.export import ExportReport
from resnest_d2.engine import Evaluation, Training, launch
from resnest_d2.files import read_json
from resnest_d2.inference import Predictor
from resnest_d2.model_zoo import find_detector, find_weights
from resnest_d2.outputs import require_new

from .exporting import export


class Run:
    """The folder of a training or an evaluation, ``folder``."""

    def __init__(self, folder: str | os.PathLike):
        """
        Args:
            folder: OUTPUT_DIR; a MissingFileError is raised if it is not that of a run.
        """
        self.folder = Path(folder)
        find_detector(str(folder))

    @property
    def results(self) -> dict[str, dict]:
        """Of the last evaluation: dataset -> task -> metric -> percent or None; empty if none."""
        path = self.folder / "results.json"
        return read_json(str(path)) if path.is_file() else {}

    @property
    def box_ap(self) -> float | None:
        """Box AP in percent on the first dataset; None without an evaluation."""
        return self._metric("bbox")

    @property
    def mask_ap(self) -> float | None:
        """Mask AP in percent on the first dataset; None without masks or evaluation."""
        return self._metric("segm")

    def _metric(self, task: str) -> float | None:
        first: Mapping[str, Any] = next(iter(self.results.values()), {})
        return first.get(task, {}).get("AP")

    @property
    def weights(self) -> Path:
        """Checkpoint of the best evaluation, else the last one.

        Raises:
            MissingFileError: there is none.
        """
        return Path(find_weights(str(self.folder)))

    @property
    def report(self) -> Path | None:
        """The HTML report, if one was written."""
        path = self.folder / "report.html"
        return path if path.is_file() else None

    def predictor(self, **options: Any) -> Predictor:
        """A predictor with the run's weights; the options are those of :class:`Predictor`."""
        return Predictor(self.folder, **options)

    def evaluate(self, **options: Any) -> "Run":
        """Evaluates the run's weights; the options are those of :func:`evaluate`."""
        return evaluate(self.folder, **options)

    def resume(self) -> "Run":
        """Continues the training where it stopped."""
        return _run(Training(model=str(self.folder), resume=True).arguments())

    def export(self, path: str | os.PathLike | None = None, **options: Any) -> ExportReport:
        """Exports the run's detector; the options are those of :func:`export`."""
        return export(self.folder, path, **options)

    def __repr__(self) -> str:
        scores = {"box AP": self.box_ap, "mask AP": self.mask_ap}
        known = [f"{name} {ap:.1f}" for name, ap in scores.items() if ap is not None]
        return f"Run({self.folder}: {', '.join(known) or 'not evaluated'})"


def train(
    model: str | os.PathLike,
    *,
    data: Paths | None = None,
    val: Paths | None = None,
    output: str | os.PathLike | None = None,
    weights: str | os.PathLike | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    image_size: int | None = None,
    anchors: str | None = None,
    num_gpus: int = 1,
    overwrite: bool = False,
    opts: Sequence = (),
) -> Run:
    """Trains a detector, as ``resnest-d2 train`` does.

    What is not given follows from the data, see docs/own_data.md. Programs with ``num_gpus`` over 1
    call it below ``if __name__ == "__main__":``, because it starts processes.

    Args:
        model: name or path of a config, or a published detector to fine-tune.
        data: COCO annotations to train on, or these and the folder of their images; None for the
            config's datasets.
        val: the same to evaluate on.
        output: folder of the run; None for the config's OUTPUT_DIR.
        weights: initial weights: a checkpoint, the best of a run, or a published detector's.
        epochs: length of the training.
        batch_size: images per iteration, over all processes.
        lr: learning rate.
        image_size: shorter side of the images in pixels, in training and evaluation.
        anchors: "auto" fits the anchors to the boxes, where that is better.
        num_gpus: processes, one per GPU; on the CPU if there is none.
        overwrite: delete the run that is in the folder.
        opts: overrides ``[key, value, ...]`` of the config.

    Returns:
        The run. After Ctrl-C, :meth:`Run.resume` continues it.

    Raises:
        MissingFileError: there is no such config, file or folder.
        UserError: data with errors, arguments that contradict each other, or another run in the
            folder.
    """
    request = Training(
        model=os.fspath(model),
        data=data,
        val=val,
        output=output,
        weights=None if weights is None else os.fspath(weights),
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        image_size=image_size,
        anchors=anchors,
        opts=opts,
    )
    args = request.arguments()
    args.num_gpus, args.overwrite = num_gpus, overwrite
    return _run(args)


def evaluate(
    model: str | os.PathLike,
    *,
    data: Paths | None = None,
    weights: str | os.PathLike | None = None,
    output: str | os.PathLike | None = None,
    num_gpus: int = 1,
    overwrite: bool = False,
    opts: Sequence = (),
) -> Run:
    """Evaluates a detector, as ``resnest-d2 eval`` does.

    Args:
        model: a run, a checkpoint in it, a published detector, or a config with ``weights``.
        data: COCO annotations, or these and the folder of their images; None for the model's own.
        weights: path of a checkpoint; None for a run's best or last, or the published one.
        output: folder for the results; None for the run's ``eval``, or the config's OUTPUT_DIR.
        num_gpus: as for :func:`train`.
        overwrite: replace the results in ``output``.
        opts: overrides ``[key, value, ...]`` of the config.

    Returns:
        The folder of the results, with its AP.

    Raises:
        MissingFileError, UserError: as :func:`train`.
    """
    if output is not None:
        require_new([Path(output) / "results.json"], overwrite=overwrite)
    request = Evaluation(
        model=os.fspath(model),
        data=data,
        weights=None if weights is None else os.fspath(weights),
        output=output,
        opts=opts,
    )
    args = request.arguments()
    args.num_gpus = num_gpus
    return _run(args)


def _run(args: argparse.Namespace) -> Run:
    """Trains or evaluates; data of an earlier run may have had the same names."""
    cfg = load_config(args.config_file, args.opts)
    forget_datasets(name for name, *_ in cfg.DATASETS.COCO)
    launch(args)
    return Run(cfg.OUTPUT_DIR)
