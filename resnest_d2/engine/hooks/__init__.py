"""Hooks of the trainer, one per file; :meth:`Trainer.build_hooks` sets their order."""

from .anchors import FoundAnchorsFile
from .batch_size import BatchSize
from .best_checkpoint import BestCheckpoint, trained_iterations
from .checkpoints import Checkpoints, build_checkpoints
from .early_stopping import EarlyStop, EarlyStopping, build_early_stopping
from .ema import WeightAverage, build_ema
from .nonfinite import DivergedError, StepWatch, is_nonfinite
from .precise_bn import build_precise_bn
from .progress import ProgressBar
from .report import ReportHook
from .training_state import TrainingState

__all__ = [
    "BatchSize",
    "BestCheckpoint",
    "Checkpoints",
    "DivergedError",
    "EarlyStop",
    "EarlyStopping",
    "FoundAnchorsFile",
    "ProgressBar",
    "ReportHook",
    "StepWatch",
    "TrainingState",
    "WeightAverage",
    "build_checkpoints",
    "build_early_stopping",
    "build_ema",
    "build_precise_bn",
    "is_nonfinite",
    "trained_iterations",
]
