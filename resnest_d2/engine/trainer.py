"""detectron2's DefaultTrainer with this package's data, evaluation, checkpoints and hooks."""

import contextlib
import functools
import logging
import os
import signal
import threading
import weakref
from collections.abc import Iterator
from unittest import mock

from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader, build_detection_train_loader
from detectron2.engine import DefaultTrainer, HookBase, create_ddp_model, defaults
from detectron2.engine.hooks import EvalHook
from detectron2.evaluation import DatasetEvaluators
from detectron2.modeling import GeneralizedRCNNWithTTA
from detectron2.utils import comm
from detectron2.utils.events import CommonMetricPrinter, EventWriter
from torch import nn

from resnest_d2.checkpoint import ReportingCheckpointer
from resnest_d2.data.mapper import NamingDatasetMapper
from resnest_d2.layers import adapt_sync_norms

from .evaluation import TTA, build_evaluator, by_dataset, check_evaluation, publish
from .hooks import BestCheckpoint, ProgressBar, file_only_printer

_IGNORED = {  # while a stopped run is saved; SIGCHLD by default does nothing
    "SIGCHLD": signal.SIG_DFL,
    "SIGTERM": signal.SIG_IGN,
    "SIGINT": signal.SIG_IGN,
}


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Put signals off while a stopped run is saved, and back afterwards.

    A cluster's SIGTERM reaches the data workers too; their end, or a second signal, would cut the
    saving short.
    """
    previous = {}
    if threading.current_thread() is threading.main_thread():  # Python's rule for handlers
        for name, handler in _IGNORED.items():
            if hasattr(signal, name):
                previous[name] = signal.signal(getattr(signal, name), handler)
    try:
        yield
    finally:
        for name, handler in previous.items():
            signal.signal(getattr(signal, name), handler or signal.SIG_DFL)


class Trainer(DefaultTrainer):
    """Trains and tests any detector of this package, on GPUs or on the CPU."""

    def __init__(self, cfg: CfgNode):
        """
        Args:
            cfg: config whose data sets are registered.

        Raises:
            ImportError, ValueError: as :func:`check_evaluation`.
        """
        check_evaluation(cfg)
        # DDP takes device_ids for GPUs only, and detectron2 always gives them.
        ddp = create_ddp_model
        if cfg.MODEL.DEVICE == "cpu":
            ddp = functools.partial(create_ddp_model, device_ids=None)
        with mock.patch.object(defaults, "create_ddp_model", ddp):
            super().__init__(cfg)

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """The detector; its heads' SyncBN too is one that the process group can run."""
        return adapt_sync_norms(super().build_model(cfg))

    @classmethod
    def build_train_loader(cls, cfg: CfgNode):
        """Batches of training pictures."""
        return build_detection_train_loader(cfg, mapper=NamingDatasetMapper(cfg, is_train=True))

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str):
        """Test pictures, one at a time."""
        mapper = NamingDatasetMapper(cfg, is_train=False)
        return build_detection_test_loader(cfg, dataset_name, mapper=mapper)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluators:
        """Evaluator of a data set by its metadata's evaluator_type."""
        return build_evaluator(
            dataset_name, os.path.join(cfg.OUTPUT_DIR, "inference", dataset_name)
        )

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module, evaluators=None) -> dict:
        """Evaluate on DATASETS.TEST; prints the AP table and writes results.json.

        Returns:
            As :meth:`DefaultTrainer.test`: metrics in percent by task, by data set if several.
        """
        results = super().test(cfg, model, evaluators)
        if cfg.DATASETS.TEST:
            publish(by_dataset(results, cfg.DATASETS.TEST), cfg.OUTPUT_DIR)
        return results

    @classmethod
    def test_with_tta(cls, cfg: CfgNode, model: nn.Module) -> dict:
        """Evaluate with the pictures resized and flipped as TEST.AUG says; after :meth:`test`.

        Returns:
            As :meth:`test`, the tasks named ``bbox_TTA``, ``segm_TTA``.
        """
        names = cfg.DATASETS.TEST
        folder = os.path.join(cfg.OUTPUT_DIR, "inference" + TTA)
        evaluators = [build_evaluator(name, os.path.join(folder, name)) for name in names]
        results = super().test(cfg, GeneralizedRCNNWithTTA(cfg, model), evaluators)
        results = {
            name: {task + TTA: metrics for task, metrics in tasks.items()}
            for name, tasks in by_dataset(results, names).items()
        }
        publish(results, cfg.OUTPUT_DIR, beside=True)
        return results[names[0]] if len(names) == 1 else results

    def build_hooks(self) -> list[HookBase]:
        """detectron2's hooks, the best checkpoint, and a bar on a terminal."""
        # Here and not in __init__, because the hooks built next hold on to it.
        self.checkpointer = ReportingCheckpointer(
            self.model, self.cfg.OUTPUT_DIR, trainer=weakref.proxy(self)
        )
        hooks = super().build_hooks()
        if self.cfg.TEST.AUG.ENABLED:
            with_tta = EvalHook(0, lambda: self.test_with_tta(self.cfg, self.model))
            hooks.insert(-1, with_tta)  # the last writes what the others have put into the storage
        if comm.is_main_process():
            task = "segm" if self.cfg.MODEL.MASK_ON else "bbox"
            several = len(self.cfg.DATASETS.TEST) > 1
            prefix = f"{self.cfg.DATASETS.TEST[0]}/" if several else ""
            best = BestCheckpoint(f"{prefix}{task}/AP", self.cfg.OUTPUT_DIR)
            hooks.insert(-1, best)
            if ProgressBar.wanted():
                hooks.insert(0, ProgressBar())
        return hooks

    def build_writers(self) -> list[EventWriter]:
        """metrics.json, TensorBoard, and lines of metrics; in the log alone beside a bar."""
        writers = super().build_writers()
        if ProgressBar.wanted():
            writers = [
                file_only_printer(self.max_iter) if isinstance(w, CommonMetricPrinter) else w
                for w in writers
            ]
        return writers

    def train(self) -> dict | None:
        """Train; a run that is stopped or fails on its data leaves a checkpoint to resume."""
        try:
            return super().train()
        except (KeyboardInterrupt, ValueError, OSError, RuntimeError):
            finished = self.scheduler.last_epoch  # it steps once at the end of every iteration
            if finished > self.start_iter and comm.get_world_size() == 1:
                self.iter = finished - 1  # saved as the last one done
                with _undisturbed():
                    self.checkpointer.save(f"model_{self.iter:07d}")
                logging.getLogger(__name__).info(
                    f"Stopped after {finished} iterations; --resume goes on from there."
                )
            raise
