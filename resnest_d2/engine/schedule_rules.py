"""The rules by which the schedule of a new training follows from its recipe and its data.

One row a key; :mod:`resnest_d2.engine.schedule` applies them.
"""

import math
from collections.abc import Callable, Collection
from fractions import Fraction
from typing import Any, NamedTuple

from detectron2.config import CfgNode

from resnest_d2.config.backbone import activation_checkpoint_fault

_LONG = 30  # epochs; above that an evaluation after each would take longer than the training
_EVALUATIONS = 10  # at least
# Images shown. From scratch, jitter cost 5 of 46 box AP in 800 of BCCD's and none in nuclei's (each
# the mean of three seeds), and 11 of 52 in 1,232 of BCCD's (one seed).
SHORT = 4000
_SMALL_BATCH = 8  # batch statistics of fewer images are worse than those of the pretraining
_FIXED_NORMS = ("", "FrozenBN", "GN", "LN")  # norms that do not depend on the batch


class Training(NamedTuple):
    """What the rules look at.

    Attributes:
        recipe: config of the shipped files that the config is based on, as published.
        cfg: config of the training; keys of earlier rules have their final values.
        images: number of images that are trained on.
        processes: number of processes.
        given: keys that the user set.
    """

    recipe: CfgNode
    cfg: CfgNode
    images: int
    processes: int
    given: Collection[str]

    @property
    def larger(self) -> Fraction:
        """The batch in multiples of the recipe's."""
        return Fraction(self.cfg.SOLVER.IMS_PER_BATCH, self.recipe.SOLVER.IMS_PER_BATCH)

    @property
    def epoch(self) -> Fraction:
        """Iterations of one pass over the images."""
        return Fraction(self.images, self.cfg.SOLVER.IMS_PER_BATCH)

    @property
    def length(self) -> int:
        """Iterations of the run."""
        return self.cfg.SOLVER.MAX_ITER

    @property
    def shown(self) -> int:
        """Images that are shown in the run, each as often as it is."""
        return self.length * self.cfg.SOLVER.IMS_PER_BATCH

    @property
    def has_own_data(self) -> bool:
        """Whether the training data is not the recipe's."""
        return tuple(self.cfg.DATASETS.TRAIN) != tuple(self.recipe.DATASETS.TRAIN)


class Rule(NamedTuple):
    """How a key follows where the user does not set it.

    Attributes:
        key: the key.
        label: what the dry run calls it.
        value: computes its value.
        why: what it follows from, for the dry run.
    """

    key: str
    label: str
    value: Callable[[Training], Any]
    why: str


def _batch(run: Training) -> int:
    solver = run.recipe.SOLVER
    batch, reference = solver.IMS_PER_BATCH, solver.REFERENCE_WORLD_SIZE
    if reference:
        return max(1, batch // reference) * run.processes
    return math.ceil(batch / run.processes) * run.processes


def _rate(run: Training) -> float:
    return float(run.recipe.SOLVER.BASE_LR * run.larger)


def _epochs(run: Training) -> int:
    if "SOLVER.MAX_ITER" in run.given:
        return 0
    if run.has_own_data and run.recipe.SOLVER.REFERENCE_WORLD_SIZE:
        return epochs_for(run.images)
    return run.cfg.SOLVER.EPOCHS


def epochs_for(images: int) -> int:
    """Length of a training on own data, in epochs.

    12, as published for COCO, from about 28,000 images on; more for fewer, so that 12 images are
    shown 290 times each, 160 100 times, 1,000 47 times and 5,000 24 times.
    """
    return max(12, round(800 / images**0.41))


def _length(run: Training) -> int:
    if run.cfg.SOLVER.EPOCHS:
        return math.ceil(run.cfg.SOLVER.EPOCHS * run.epoch)
    return max(1, round(run.recipe.SOLVER.MAX_ITER / run.larger))


def _steps(run: Training) -> tuple[int, ...]:
    part = Fraction(run.length, run.recipe.SOLVER.MAX_ITER)
    steps = {round(step * part) for step in run.recipe.SOLVER.STEPS}
    return tuple(sorted(step for step in steps if 0 < step < run.length))


def _warmup(run: Training) -> int:
    published = round(run.recipe.SOLVER.WARMUP_ITERS / run.larger)
    first_decay = min(run.cfg.SOLVER.STEPS, default=run.length)
    return min(published, run.length // 10, first_decay)


def _evaluation_period(run: Training) -> int:
    if not run.cfg.DATASETS.TEST:
        return 0
    if run.cfg.TEST.EVAL_EPOCHS:
        return math.ceil(run.cfg.TEST.EVAL_EPOCHS * run.epoch)
    most = math.ceil(run.length / _EVALUATIONS)  # rounded down, two would fall on the run's end
    if math.ceil(run.length / most) < _EVALUATIONS:
        most = max(1, run.length // _EVALUATIONS)
    return min(most, math.ceil(run.epoch)) if run.length <= _LONG * run.epoch else most


def _checkpoint_period(run: Training) -> int:
    return run.cfg.TEST.EVAL_PERIOD or max(1, run.length // _EVALUATIONS)


def _norm(run: Training) -> str:
    norm = run.cfg.MODEL.RESNETS.NORM
    small = run.cfg.SOLVER.IMS_PER_BATCH < _SMALL_BATCH
    frozen = small and run.cfg.MODEL.WEIGHTS and norm not in _FIXED_NORMS
    recomputed = run.cfg.MODEL.RESNETS.ACTIVATION_CHECKPOINT
    if not frozen or activation_checkpoint_fault(recomputed, "FrozenBN"):
        return norm
    return "FrozenBN"


def _is_short(run: Training) -> bool:
    return not run.cfg.MODEL.WEIGHTS and run.shown < SHORT


def _scale_jitter(run: Training) -> tuple[float, ...]:
    return () if _is_short(run) else run.cfg.INPUT.AUG.SCALE_JITTER


def _color_jitter(run: Training) -> float:
    return 0.0 if _is_short(run) else run.cfg.INPUT.AUG.COLOR_JITTER


# In this order, because later rules look at the values of earlier ones. The table in
# docs/training.md has the same rows.
RULES = (
    Rule("SOLVER.IMS_PER_BATCH", "batch", _batch, "the recipe's images per process"),
    Rule("SOLVER.BASE_LR", "learning rate", _rate, "linear in the batch"),
    Rule("SOLVER.EPOCHS", "epochs", _epochs, "suits the number of images"),
    Rule(
        "SOLVER.MAX_ITER", "iterations", _length, "the epochs, or as many images as in the recipe"
    ),
    Rule("SOLVER.STEPS", "decays at", _steps, "the recipe's fractions of the run"),
    Rule("SOLVER.WARMUP_ITERS", "warm-up", _warmup, "the recipe's, at most a tenth of the run"),
    Rule(
        "TEST.EVAL_PERIOD",
        "evaluation every",
        _evaluation_period,
        "every epoch, at least ten in the run",
    ),
    Rule(
        "SOLVER.CHECKPOINT_PERIOD", "checkpoint every", _checkpoint_period, "with every evaluation"
    ),
    Rule(
        "MODEL.RESNETS.NORM", "backbone's norms", _norm, "pretrained statistics in batches under 8"
    ),
    Rule(
        "INPUT.AUG.SCALE_JITTER",
        "scale jitter",
        _scale_jitter,
        "the recipe's; none in short trainings from scratch",
    ),
    Rule(
        "INPUT.AUG.COLOR_JITTER",
        "colour jitter",
        _color_jitter,
        "the recipe's; none in short trainings from scratch",
    ),
)
