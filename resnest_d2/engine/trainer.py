"""detectron2's DefaultTrainer with this package's data, evaluation, checkpoints and hooks."""

import contextlib
import os
import weakref
from collections.abc import Callable, Iterable
from typing import Any

from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.engine import hooks as d2_hooks
from detectron2.evaluation import DatasetEvaluators
from detectron2.modeling import GeneralizedRCNNWithTTA
from detectron2.utils import comm
from detectron2.utils.events import CommonMetricPrinter, EventWriter
from torch import nn

from resnest_d2.compat.evaluators import writing_whole_results
from resnest_d2.config import check_config, with_defaults
from resnest_d2.data import register_datasets
from resnest_d2.data.coco import release_datasets
from resnest_d2.deploy.cpu.layout import use_channels_last
from resnest_d2.deploy.cpu.roi_align import replace_poolers
from resnest_d2.deploy.cpu.upsampling import replace_upsampling
from resnest_d2.layers import adapt_sync_norms
from resnest_d2.signals import signals_act

from . import hooks
from .anchors import fit_anchors
from .checkpointer import build_checkpointer
from .console import Console
from .evaluation import build_evaluator, check_evaluation, main_metric
from .guards import load_training_images, warn_of_small_data
from .loading import build_evaluation_loader, build_training_loader
from .logs import file_only_printer, prints_in_log, running_console
from .metrics import TTA, by_dataset, defined, publish, record_weights
from .precision import on_its_device
from .reporting import report
from .resumable import Evaluation, ResumableTrainer
from .scaling import scale_schedule
from .schedule import warn_of_low_peak
from .validation_loss import build_validation_loader, validation_losses
from .writers import wandb_writers


class Trainer(ResumableTrainer):
    """Trains and tests any detector of this package, on GPUs or on the CPU.

    Attributes:
        ema: hook that averages the weights to evaluate and save; None without MODEL.EMA.
    """

    def __init__(self, cfg: CfgNode, *, images: list[dict] | None = None):
        """
        Args:
            cfg: config; its datasets are registered if needed.
            images: images of :func:`load_training_images`, if they are already loaded.

        Raises:
            MissingPackageError, UserError: see :func:`check_config`, :func:`register_datasets`,
                :func:`check_evaluation` and :func:`load_training_images`.
        """
        check_config(cfg)
        cfg = with_defaults(cfg)
        register_datasets(cfg)
        check_evaluation(cfg)
        images = load_training_images(cfg) if images is None else images
        self._images: list[dict] | None = images
        self._loaders: list[Iterable[list[dict]]] = []
        cfg = scale_schedule(cfg, images=len(images), processes=comm.get_world_size())
        warn_of_low_peak(cfg)
        fit = fit_anchors(cfg, images)
        cfg = fit.cfg if fit else cfg
        with on_its_device(cfg):
            super().__init__(cfg)
        if fit:
            self.register_hooks([hooks.FoundAnchorsFile(cfg)])
        self._images = None  # gigabytes for large datasets; the loader has a packed copy

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """Builds the detector, with SyncBN that suits the processes, and faster layers on a CPU."""
        model = replace_poolers(adapt_sync_norms(super().build_model(cfg)))
        return use_channels_last(replace_upsampling(model))

    def build_train_loader(self, cfg: CfgNode) -> Iterable[list[dict]]:
        """Builds a loader of training batches; raises as :func:`load_training_images`."""
        images = self._images or load_training_images(cfg)
        warn_of_small_data(cfg, images)
        loader = build_training_loader(cfg, images)
        self._loaders.append(loader)
        release_datasets({*cfg.DATASETS.TRAIN} - {*cfg.DATASETS.TEST})  # the loader has a copy
        return loader

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Iterable[list[dict]]:
        """Builds a loader of test images, one at a time, which shows how far it has got."""
        return build_evaluation_loader(cfg, dataset_name, shown=comm.is_main_process())

    @classmethod
    def build_evaluator(
        cls, cfg: CfgNode, dataset_name: str, *, folder: str = "inference"
    ) -> DatasetEvaluators:
        """Builds the evaluator of a dataset from its metadata's evaluator_type."""
        path = os.path.join(cfg.OUTPUT_DIR, folder, dataset_name)
        limit, sigmas = cfg.TEST.DETECTIONS_PER_IMAGE, cfg.TEST.KEYPOINT_OKS_SIGMAS
        return build_evaluator(dataset_name, path, detections=limit, sigmas=sigmas)

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module, evaluators: Any = None) -> dict:
        """Evaluates on DATASETS.TEST, prints the AP table and writes results.json.

        Returns:
            Metrics in percent by task, or by dataset and task if there are several datasets.
        """
        with writing_whole_results(), prints_in_log():
            results = super().test(cfg, model, evaluators)
        if cfg.DATASETS.TEST:
            publish(by_dataset(results, cfg.DATASETS.TEST), cfg)
        return results

    @classmethod
    def test_with_tta(cls, cfg: CfgNode, model: nn.Module) -> dict:
        """Evaluates with the augmentation of TEST.AUG, as tasks ``bbox_TTA`` and ``segm_TTA``.

        Call it after :meth:`test`, whose results it adds to.
        """
        names = cfg.DATASETS.TEST
        evaluators = [cls.build_evaluator(cfg, n, folder="inference" + TTA) for n in names]
        with writing_whole_results(), prints_in_log():
            results = super().test(cfg, GeneralizedRCNNWithTTA(cfg, model), evaluators)
        by_name = by_dataset(results, names).items()
        results = {n: {task + TTA: found for task, found in tasks.items()} for n, tasks in by_name}
        publish(results, cfg, beside=True)
        return results[names[0]] if len(names) == 1 else results

    def build_hooks(self) -> list[HookBase | None]:
        """Builds all hooks in their order, which keeps the order of detectron2's."""
        cfg, main, period = self.cfg, comm.is_main_process(), self.cfg.TEST.EVAL_PERIOD
        self.ema = hooks.build_ema(cfg, self.model)
        # Here and not in __init__, because hooks keep a reference to it.
        self.checkpointer = build_checkpointer(
            self.model, cfg.OUTPUT_DIR, ema=self.ema, trainer=weakref.proxy(self)
        )
        self._watch = hooks.StepWatch(self.model, self.optimizer)
        if cfg.TEST.VALIDATION_LOSS:
            self._validation_loader = build_validation_loader(cfg)
        best = hooks.BestCheckpoint(main_metric(cfg), cfg.OUTPUT_DIR) if main else None
        writers = self.build_writers() if main else []
        # Without the printer, which would print a line twice; the others only write new values.
        self._silent_writers = [w for w in writers if not isinstance(w, CommonMetricPrinter)]
        self._report = hooks.ReportHook(self._write_report, writers=self._silent_writers)
        before = [
            hooks.ProgressBar(main_metric(cfg)) if main and hooks.ProgressBar.wanted() else None,
            self._watch,
            hooks.BatchSize(cfg.SOLVER.IMS_PER_BATCH),
            d2_hooks.IterationTimer(),
            self.ema,
            d2_hooks.LRScheduler(),
            hooks.build_precise_bn(cfg, self.model, self.build_train_loader),
            hooks.build_checkpoints(cfg, self.checkpointer),
        ]
        self._state = hooks.TrainingState(self.model, cfg.OUTPUT_DIR, loaders=self._loaders)
        after = [
            Evaluation(period, self._evaluate),
            Evaluation(period, self.validate) if cfg.TEST.VALIDATION_LOSS else None,
            Evaluation(0, self._evaluate_augmented) if cfg.TEST.AUG.ENABLED else None,
            best,  # uses the evaluations above
            hooks.build_early_stopping(cfg, best, self._finish_early),
            d2_hooks.PeriodicWriter(writers) if main else None,  # writes what the others stored
            self._report,  # uses the files of the writers
            self._state,
        ]
        self._after_checkpoint = [hook for hook in after if hook is not None]
        return [*before, *self._after_checkpoint]

    def _kept_weights(self) -> contextlib.AbstractContextManager:
        """Puts the weights to evaluate and save into the model: the average, if there is one."""
        return self.ema.applied() if self.ema else contextlib.nullcontext()

    def _evaluate(self) -> dict:
        """Returns the metrics of :meth:`test`, and requests a report."""
        self._last_eval_results = self._tested(self.test)  # read by super().train()
        return defined(self._last_eval_results)  # NaN is not JSON

    def _evaluate_augmented(self) -> dict:
        """Returns the metrics of :meth:`test_with_tta`, and requests a report."""
        return defined(self._tested(self.test_with_tta))

    def _tested(self, test: Callable[[CfgNode, nn.Module], dict]) -> dict:
        with self._kept_weights(), signals_act():
            results = test(self.cfg, self.model)
        self._record("model_final.pth" if self.iter + 1 >= self.max_iter else "")
        self._report.ask()
        return results

    def _write_report(self) -> None:
        with signals_act():
            report(self.cfg)

    def _record(self, file: str) -> None:
        trained = hooks.trained_iterations(self, self.storage.iter)
        record_weights(self.cfg.OUTPUT_DIR, file=file, trained=trained, training=True)

    def _finish_early(self) -> None:
        self.checkpointer.save("model_final", iteration=self.iter)
        if self.cfg.TEST.AUG.ENABLED:
            self._evaluate_augmented()
        self._record("model_final.pth")

    def validate(self) -> dict:
        """Computes the losses on DATASETS.TEST, see :func:`validation_losses`."""
        with self._kept_weights(), signals_act():
            return defined(validation_losses(self.model, self._validation_loader))

    def build_writers(self) -> list[EventWriter]:
        """Writers of metrics.json, TensorBoard, W&B and the log; with a bar to log.txt only."""
        writers = super().build_writers()
        if hooks.ProgressBar.wanted() or running_console() is Console.QUIET:
            writers = [
                file_only_printer(self.max_iter) if isinstance(w, CommonMetricPrinter) else w
                for w in writers
            ]
        return [*writers, *wandb_writers(self.cfg)]
