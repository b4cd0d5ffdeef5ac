"""Saves the weights of the best evaluation."""

import json
import logging
import math
import os
import shutil
from pathlib import Path
from typing import Any

from detectron2.engine import HookBase

from resnest_d2.files import make_folder, read_json, whole_file


def trained_iterations(trainer: Any, iteration: int) -> int:
    """Number of iterations that weights were trained for when the storage had an iteration.

    The storage counts from 0 during the training, and after it is one further.
    """
    return min(iteration + 1, max(trainer.max_iter, trainer.start_iter))


class BestCheckpoint(HookBase):
    """Saves the weights of the best evaluation so far as ``model_best.pth``.

    It must follow the EvalHook. ``best.json`` next to it holds the metric, so that a resumed run
    compares with earlier results; the tag of the last checkpoint is unchanged. The report needs all
    results of the evaluation, which are in ``best.json``, and its detections, in
    ``inference_best/``.
    """

    def __init__(self, metric: str, output_dir: str):
        """
        Args:
            metric: name in the event storage, e.g. "bbox/AP"; higher is better.
            output_dir: folder of the two files.
        """
        self.metric = metric
        self.output_dir = output_dir
        self.weights_file = os.path.join(output_dir, "model_best.pth")
        self.record_file = os.path.join(output_dir, "best.json")
        self.best = -math.inf
        self.iteration: int | None = None  # of the best evaluation
        self.seen_iter = -1

    def before_train(self) -> None:
        """Reads the best result of a run that is resumed."""
        self.seen_iter = self.trainer.storage.latest().get(self.metric, (None, -1))[1]
        if self.trainer.start_iter > 0 and os.path.isfile(self.record_file):
            record = read_json(self.record_file)
            if record["metric"] == self.metric:  # box and mask AP cannot be compared
                self.best, self.iteration = record["value"], record["iteration"]

    def after_step(self) -> None:
        """Saves the weights if an evaluation since the last call was the best."""
        value, iteration = self.trainer.storage.latest().get(self.metric, (None, -1))
        if value is None or iteration <= self.seen_iter:
            return
        self.seen_iter = iteration
        if not value > self.best:  # also if it is NaN
            return
        self.best, self.iteration = value, iteration
        trained = trained_iterations(self.trainer, iteration)
        self.trainer.checkpointer.save_weights(self.weights_file, iteration=trained - 1)
        record = {"metric": self.metric, "value": value, "iteration": iteration, "trained": trained}
        with whole_file(self.record_file, "w") as file:
            json.dump({**record, "results": self._keep_evaluation()}, file)
        logging.getLogger(__name__).info(
            f"Best {self.metric} so far: {value:.2f} at iteration {iteration}, kept as "
            f"{self.weights_file}."
        )

    def _keep_evaluation(self) -> dict:
        """Copies the detections of the evaluation; returns its results."""
        folder = Path(self.output_dir)
        for path in folder.glob("inference/*/coco_instances_results.json"):
            target = folder / "inference_best" / path.parent.name
            make_folder(target)
            with open(path, "rb") as source, whole_file(target / path.name) as copy:
                shutil.copyfileobj(source, copy)
        results = folder / "results.json"
        return read_json(str(results)) if results.is_file() else {}

    after_train = after_step  # the last evaluation follows the last step
