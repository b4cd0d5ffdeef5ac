"""Saves the weights of the best evaluation."""

import json
import logging
import math
import os

from detectron2.engine import HookBase

from resnest_d2.files import read_json, whole_file


class BestCheckpoint(HookBase):
    """Saves the weights of the best evaluation so far as ``model_best.pth``.

    It must follow the EvalHook. ``best.json`` next to it holds the metric, so that a resumed run
    compares with earlier results; the tag of the last checkpoint is unchanged.
    """

    def __init__(self, metric: str, output_dir: str):
        """
        Args:
            metric: name in the event storage, e.g. "bbox/AP"; higher is better.
            output_dir: folder of the two files.
        """
        self.metric = metric
        self.weights_file = os.path.join(output_dir, "model_best.pth")
        self.record_file = os.path.join(output_dir, "best.json")
        self.best = -math.inf
        self.iteration: int | None = None  # of the best evaluation
        self.seen_iter = -1

    def before_train(self) -> None:
        """Reads the best result of a run that is resumed."""
        self.seen_iter = self.trainer.start_iter - 1
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
        self.trainer.checkpointer.save_weights(self.weights_file, iteration=iteration)
        with whole_file(self.record_file, "w") as file:
            json.dump({"metric": self.metric, "value": value, "iteration": iteration}, file)
        logging.getLogger(__name__).info(
            f"Best {self.metric} so far: {value:.2f} at iteration {iteration}, kept as "
            f"{self.weights_file}."
        )

    after_train = after_step  # the last evaluation follows the last step
