"""Hooks of the trainer: the best checkpoint, and a progress bar on a terminal."""

import json
import logging
import math
import os
import shutil
import sys

from detectron2.engine import HookBase
from detectron2.utils.events import CommonMetricPrinter
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from resnest_d2.files import read_json, whole_file


def set_aside(output_dir: str) -> None:
    """Keep what an earlier run is known by apart from one that begins anew.

    ``model_best.pth`` becomes ``model_best.old.pth``, and so on; numbered checkpoints stay.

    Args:
        output_dir: folder of both runs.
    """
    names = ("metrics.json", "best.json", "model_best.pth", "model_final.pth", "last_checkpoint")
    for name in names:
        path = os.path.join(output_dir, name)
        if not os.path.isfile(path) or not os.path.getsize(path):
            continue
        old = "{}.old{}".format(*os.path.splitext(path))
        if name == "metrics.json":  # its writer has it open, at its end
            shutil.copyfile(path, old)
            os.truncate(path, 0)
        else:
            os.replace(path, old)
        logging.getLogger(__name__).info(f"{path} is of an earlier run: it is {old} now.")


class BestCheckpoint(HookBase):
    """Keeps the weights of the best evaluation so far as ``model_best.pth``.

    It stands after the EvalHook. ``best.json`` beside it holds the metric, so that a resumed run
    compares with what was before; the tag of the last checkpoint stays where it is.
    """

    def __init__(self, metric: str, output_dir: str):
        """
        Args:
            metric: name in the event storage, e.g. "bbox/AP"; higher is better.
            output_dir: where the two files go.
        """
        self.metric = metric
        self.weights_file = os.path.join(output_dir, "model_best.pth")
        self.record_file = os.path.join(output_dir, "best.json")
        self.best = -math.inf
        self.iteration: int | None = None  # of the best
        self.seen_iter = -1

    def before_train(self) -> None:
        """Take up the best of the run that is resumed."""
        self.seen_iter = self.trainer.start_iter - 1
        if self.trainer.start_iter > 0 and os.path.isfile(self.record_file):
            record = read_json(self.record_file)
            if record["metric"] == self.metric:  # box and mask AP do not compare
                self.best, self.iteration = record["value"], record["iteration"]

    def after_step(self) -> None:
        """Save if an evaluation since the last call was the best."""
        value, iteration = self.trainer.storage.latest().get(self.metric, (None, -1))
        if value is None or iteration <= self.seen_iter:
            return
        self.seen_iter = iteration
        if not value > self.best:  # also when it is not a number
            return
        self.best, self.iteration = value, iteration
        self.trainer.checkpointer.save_weights(self.weights_file, iteration=iteration)
        with whole_file(self.record_file, "w") as file:
            json.dump({"metric": self.metric, "value": value, "iteration": iteration}, file)
        logging.getLogger(__name__).info(
            f"Best {self.metric} so far: {value:.2f} at iteration {iteration}, kept as "
            f"{self.weights_file}."
        )

    after_train = after_step  # the last evaluation comes after the last step


class ProgressBar(HookBase):
    """A bar with ETA, losses and learning rate on a terminal; log lines are printed above it.

    It stands first, so that the bar is closed before the last evaluation begins.
    """

    _bar = None

    @staticmethod
    def wanted() -> bool:
        """Whether somebody looks: standard error is a terminal."""
        return sys.stderr.isatty()

    def before_train(self) -> None:
        """Show the bar."""
        names = ("detectron2", "resnest_d2", "fvcore")
        self._redirect = logging_redirect_tqdm([logging.getLogger(name) for name in names])
        self._redirect.__enter__()
        self._bar = tqdm(
            total=self.trainer.max_iter,
            initial=self.trainer.start_iter,
            unit="it",
            dynamic_ncols=True,
            smoothing=0.1,
        )

    def after_step(self) -> None:
        """Move the bar."""
        latest = self.trainer.storage.latest()
        losses = ["total_loss", *sorted(name for name in latest if name.startswith("loss_"))]
        shown = [name for name in (*losses, "lr") if name in latest]
        self._bar.set_postfix_str(
            ", ".join(f"{name.removeprefix('loss_')} {latest[name][0]:.3g}" for name in shown)
        )
        self._bar.update()

    def after_train(self) -> None:
        """Leave the bar as it is; it also runs when training fails."""
        if self._bar is not None:
            self._bar.close()
            self._redirect.__exit__(None, None, None)


def file_only_printer(max_iter: int) -> CommonMetricPrinter:
    """detectron2's lines of metrics for the log file alone, where a bar is on the terminal."""
    printer = CommonMetricPrinter(max_iter)
    printer.logger = logging.getLogger("resnest_d2.metrics")
    printer.logger.propagate = False
    printer.logger.setLevel(logging.INFO)
    for handler in logging.getLogger("detectron2").handlers:
        if getattr(handler, "stream", None) not in (sys.stdout, sys.stderr):
            printer.logger.addHandler(handler)
    return printer
