"""detectron2's DefaultTrainer with this package's data, evaluation, checkpoints and hooks."""

import contextlib
import functools
import logging
import os
import weakref
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
from resnest_d2.config import check_config, with_defaults
from resnest_d2.data import register_datasets
from resnest_d2.data.coco import release_datasets
from resnest_d2.data.mapper import NamingDatasetMapper
from resnest_d2.files import WriteError
from resnest_d2.layers import adapt_sync_norms

from .early_stopping import EarlyStop, EarlyStopping
from .ema import WeightAverage
from .epochs import with_epochs
from .evaluation import TTA, build_evaluator, by_dataset, check_evaluation, publish
from .guards import load_training_images, warn_of_small_data
from .hooks import BestCheckpoint, ProgressBar, file_only_printer, set_aside
from .nonfinite import StepWatch, is_nonfinite
from .precision import BFloat16Trainer
from .reporting import ReportHook, report
from .stopping import in_plain_words, tracebacks_in_file, undisturbed
from .validation_loss import build_validation_loader, validation_losses
from .writers import wandb_writers


class Trainer(DefaultTrainer):
    """Trains and tests any detector of this package, on GPUs or on the CPU."""

    def __init__(self, cfg: CfgNode):
        """
        Args:
            cfg: config; its data sets are registered if they are not.

        Raises:
            ImportError, ValueError: as :func:`check_config`, :func:`register_datasets`,
                :func:`check_evaluation` and :func:`load_training_images`.
        """
        check_config(cfg)
        cfg = with_defaults(cfg)
        register_datasets(cfg)
        check_evaluation(cfg)
        cfg = with_epochs(cfg)
        on_cpu = contextlib.nullcontext()
        if cfg.MODEL.DEVICE == "cpu":
            # DDP takes device_ids for GPUs only, and detectron2 always gives them.
            ddp = functools.partial(create_ddp_model, device_ids=None)
            on_cpu = mock.patch.multiple(defaults, create_ddp_model=ddp, AMPTrainer=BFloat16Trainer)
        with on_cpu:
            super().__init__(cfg)
        self._watch = StepWatch(self.model, self.optimizer)

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """The detector; its heads' SyncBN too is one that the process group can run."""
        return adapt_sync_norms(super().build_model(cfg))

    @classmethod
    def build_train_loader(cls, cfg: CfgNode):
        """Batches of training images.

        Raises:
            ValueError: as :func:`load_training_images`.
        """
        images = load_training_images(cfg)
        warn_of_small_data(cfg, images)
        mapper = NamingDatasetMapper(cfg, is_train=True)
        loader = build_detection_train_loader(cfg, mapper=mapper, dataset=images)
        release_datasets({*cfg.DATASETS.TRAIN} - {*cfg.DATASETS.TEST})  # it has packed them
        return loader

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str):
        """Test images, one at a time."""
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
        """Evaluate with the images resized and flipped as TEST.AUG says; after :meth:`test`.

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
        """detectron2's hooks, those that the config asks for, and a bar on a terminal."""
        # Here and not in __init__, because the hooks built next hold on to it.
        self.checkpointer = ReportingCheckpointer(
            self.model, self.cfg.OUTPUT_DIR, trainer=weakref.proxy(self)
        )
        hooks = super().build_hooks()
        main = comm.is_main_process()
        last = [hooks.pop()] if main else []  # writes what the others have put into the storage
        if self.cfg.MODEL.EMA.ENABLED:
            hooks.insert(1, self._average_weights())
        keys = self.cfg.TEST
        if keys.VALIDATION_LOSS:
            self._validation_loader = build_validation_loader(self.cfg)
            hooks.append(EvalHook(keys.EVAL_PERIOD, lambda: self.validate()))
        if keys.AUG.ENABLED:
            hooks.append(EvalHook(0, lambda: self.test_with_tta(self.cfg, self.model)))
        best = None
        if main:
            task = "segm" if self.cfg.MODEL.MASK_ON else "bbox"
            prefix = f"{self.cfg.DATASETS.TEST[0]}/" if len(self.cfg.DATASETS.TEST) > 1 else ""
            best = BestCheckpoint(f"{prefix}{task}/AP", self.cfg.OUTPUT_DIR)
            hooks.append(best)
        stopping = self.cfg.SOLVER.EARLY_STOPPING
        if stopping.ENABLED:
            hooks.append(EarlyStopping(best, patience=stopping.PATIENCE, period=keys.EVAL_PERIOD))
        bar = [ProgressBar()] if main and ProgressBar.wanted() else []
        if main:
            last.append(ReportHook(self.cfg))  # of what the last one wrote
        return [*bar, *hooks, *last]

    def _average_weights(self) -> WeightAverage:
        """The hook that averages; from now on this trainer evaluates and saves the average."""
        average = WeightAverage(self.checkpointer.model, self.cfg.MODEL.EMA.DECAY)
        for owner, names in (
            (self, ("test", "test_with_tta", "validate")),
            (self.checkpointer, ("save", "save_weights")),
        ):
            for name in names:
                setattr(owner, name, average.inside(getattr(owner, name)))
        return average

    def validate(self) -> dict:
        """Losses on DATASETS.TEST, as :func:`validation_losses`."""
        return validation_losses(self.model, self._validation_loader)

    def build_writers(self) -> list[EventWriter]:
        """metrics.json, TensorBoard, W&B, and lines of metrics; in the log alone beside a bar."""
        writers = super().build_writers()
        if ProgressBar.wanted():
            writers = [
                file_only_printer(self.max_iter) if isinstance(w, CommonMetricPrinter) else w
                for w in writers
            ]
        return [*writers, *wandb_writers(self.cfg)]

    def train(self) -> dict | None:
        """Train; a run that is stopped or fails on its data leaves a checkpoint to resume.

        Raises:
            DivergedError: a loss, gradient or weight that is not finite; nothing is saved then.
            KeyboardInterrupt: stopped by a signal, to this process or to its data workers.
            OSError, ValueError: a checkpoint that cannot be written, an image that cannot be read.
        """
        if self.start_iter >= self.max_iter:
            logging.getLogger(__name__).warning(
                f"Nothing is left to train: the checkpoint has {self.start_iter} iterations, and "
                f"SOLVER.MAX_ITER is {self.max_iter}. It is only evaluated; to go on, set MAX_ITER "
                "(or SOLVER.EPOCHS) higher."
            )
        if self.start_iter == 0 and comm.is_main_process():
            set_aside(self.cfg.OUTPUT_DIR)
        try:
            with tracebacks_in_file():
                return super().train()
        except EarlyStop:
            self.checkpointer.save("model_final", iteration=self.iter)
            if self.cfg.TEST.AUG.ENABLED:
                self.test_with_tta(self.cfg, self.model)
                report(self.cfg)  # again: the hook's was before
        except (FloatingPointError, AssertionError) as error:
            if not is_nonfinite(error):
                raise
            last = self.checkpointer.get_checkpoint_file()
            raise self._watch.explain(
                error, self.cfg, storage=self.storage, last_checkpoint=last
            ) from error
        except WriteError:
            raise  # trying once more would fail too
        except (KeyboardInterrupt, ValueError, OSError, RuntimeError) as error:
            plain = in_plain_words(error)
            self._save_stopped()
            if plain is error:
                raise
            raise plain from error

    def _save_stopped(self) -> None:
        finished = self.scheduler.last_epoch  # it steps once at the end of every iteration
        if finished > self.start_iter and comm.is_main_process():  # all have the same weights
            self.iter = finished - 1  # saved as the last one done
            with undisturbed():
                self.checkpointer.save(f"model_{self.iter:07d}")
            logging.getLogger(__name__).info(
                f"Stopped after {finished} iterations; --resume goes on from there."
            )
