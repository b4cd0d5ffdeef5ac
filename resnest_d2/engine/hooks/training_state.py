"""Saves with a checkpoint what a resumed run needs to be the same run."""

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils import comm
from detectron2.utils.events import EventStorage, EventWriter
from torch import nn

from resnest_d2.data.randomness import seed_generators
from resnest_d2.engine.history import cut_history, history_size
from resnest_d2.engine.loading import TrainingLoader

_TIMES = ("time", "data_time", "rank_data_time", "eta_seconds")  # they belong to one start
_KEPT = 40  # iterations: twice the window of the medians in metrics.json


class TrainingState(HookBase):
    """Seeds every iteration; saves the order of the images, recent metrics and what is to do.

    It must be the last hook. A checkpoint is saved in the middle of an iteration's hooks; those
    after it, such as evaluations, are done again if they were not finished.

    Attributes:
        unfinished: whether hooks of the last iteration of the checkpoint are to be done.
    """

    def __init__(self, model: nn.Module, output_dir: str, *, loaders: Sequence[Any]):
        """
        Args:
            model: model that is trained.
            output_dir: folder of metrics.json.
            loaders: the training's loader, and that of precise batch norms, if there is one.
        """
        self.model = getattr(model, "module", model)
        self.metrics_file = os.path.join(output_dir, "metrics.json")
        self.loaders = [loader for loader in loaders if isinstance(loader, TrainingLoader)]
        self.seed = comm.shared_random_seed()
        self.unfinished = False
        self._finished = -1  # last iteration whose hooks are done
        self._size = 0  # of metrics.json then
        self._loaded: Mapping[str, Any] | None = None

    def before_train(self) -> None:
        """Notes where the run begins."""
        self._finished = self.trainer.start_iter - 1 - self.unfinished
        self._size = history_size(self.metrics_file)

    def before_step(self) -> None:
        """Gives the iteration random numbers of its own, different on each process."""
        seed_generators(self.seed, 1, comm.get_rank(), self.trainer.iter)

    def after_step(self) -> None:
        """Notes that the hooks of this iteration are done."""
        self._finished, self._size = self.trainer.iter, history_size(self.metrics_file)

    def state_dict(self) -> dict:
        """Returns the state after the last finished iteration."""
        storage = getattr(self.trainer, "storage", None)
        loaders = [loader.state() for loader in self.loaders]
        if loaders:  # without a batch that was loaded, but not trained on
            loaders[0]["batches"] = self.trainer.iter + 1
        return {
            "seed": self.seed,
            "loaders": loaders,
            "unfinished": self._finished != self.trainer.iter,
            "metrics_size": self._size,
            "metrics": _recent(storage) if storage else {},
            # Of the losses of RetinaNet: not part of the model's state.
            "loss_normalizer": vars(self.model).get("loss_normalizer"),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues the order of the images and the random numbers."""
        self._loaded = state
        self.seed, self.unfinished = state["seed"], state["unfinished"]
        if state["loss_normalizer"] is not None:
            self.model.loss_normalizer = state["loss_normalizer"]
        same = [
            loader.resume(saved)
            for loader, saved in zip(self.loaders, state["loaders"], strict=False)
        ]
        if not all(same) and comm.is_main_process():
            before = state["loaders"][0]
            logging.getLogger(__name__).warning(
                f"The run is resumed with another number of processes ({before['processes']} "
                f"before), images per batch ({before['batch']}) or training images "
                f"({before['images']}): it continues after as many images, but its numbers are "
                "not exactly those of a run that was not interrupted."
            )

    def complete(self, iterations: int, images: int) -> None:
        """Continues a checkpoint of an older version, which lacks the state of this hook.

        Args:
            iterations: iterations of the checkpoint.
            images: images per iteration.
        """
        if self._loaded is not None:
            return
        for loader in self.loaders[:1]:
            nothing = dict.fromkeys(("processes", "images", "position", "since"), 0)
            counts = {"seed": loader.seed, "batch": images, "batches": iterations}
            loader.resume({**nothing, **counts})
        if comm.is_main_process():
            logging.getLogger(__name__).warning(
                "The checkpoint is of an older version of resnest_d2 and holds no random numbers: "
                f"the run continues after {iterations} iterations with others."
            )

    def restore_metrics(self, storage: EventStorage, writers: Sequence[EventWriter]) -> None:
        """Puts back recent metrics, and drops from metrics.json what came after the checkpoint.

        Args:
            storage: storage of the run, empty.
            writers: writers of metrics.json and others.
        """
        if self.trainer.start_iter == 0:
            return
        state = self._loaded or {"metrics": {}, "metrics_size": None}
        written = -1
        if comm.is_main_process():
            written = cut_history(
                self.metrics_file, state["metrics_size"], before=self.trainer.start_iter
            )
        size = history_size(self.metrics_file)
        _put(storage, state["metrics"], range(written + 1))
        for writer in writers:  # which then know what they have written
            writer.write()
        if comm.is_main_process():
            cut_history(self.metrics_file, size, before=self.trainer.start_iter)
        _put(storage, state["metrics"], range(written + 1, self.trainer.start_iter))


def _recent(storage: EventStorage) -> dict[str, list]:
    """Name -> [whether it is smoothed, its last values, their iterations]."""
    hints = storage.smoothing_hints()
    found = {}
    for name, history in storage.histories().items():
        if name not in _TIMES:
            # One more, as an evaluation that was done again after a stop has put its numbers twice.
            value_of = {iteration: value for value, iteration in history.values()[-_KEPT - 1 :]}
            found[name] = [hints[name], list(value_of.values())[-_KEPT:], list(value_of)[-_KEPT:]]
    return found


def _put(storage: EventStorage, metrics: Mapping[str, Sequence], iterations: range) -> None:
    for name, (hint, values, when) in metrics.items():
        for value, iteration in zip(values, when, strict=True):
            if iteration in iterations:
                storage.put_scalar(name, value, smoothing_hint=hint, cur_iter=iteration)
