"""Stops at an infinite or NaN loss or gradient before it reaches the weights, and explains it.

detectron2 checks the losses before each step of the optimizer; :class:`StepWatch` also checks the
gradients, and keeps the batch for inspection.
"""

import os
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import nn
from torch.utils.hooks import RemovableHandle

from resnest_d2.compat.detectron import is_nonfinite_box
from resnest_d2.errors import UserError
from resnest_d2.files import WriteError, whole_file

_WINDOW = 20  # number of recent iterations whose losses are compared


class DivergedError(UserError, FloatingPointError):
    """The training diverged; the message names the iteration, the likely cause and a remedy."""


def is_nonfinite(error: BaseException) -> bool:
    """Whether detectron2 or :class:`StepWatch` stopped because of a non-finite number."""
    # Boxes raise AssertionError, everything else FloatingPointError.
    return isinstance(error, FloatingPointError) or is_nonfinite_box(error)


class StepWatch(HookBase):
    """Keeps the batch of every training step, and raises an error if a gradient is not finite.

    Attributes:
        batch: last input of the model in training.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer):
        """
        Args:
            model: model that is trained.
            optimizer: optimizer of its parameters.
        """
        self.model = model
        self.optimizer = optimizer
        self.batch: list[dict] = []
        self._handles: list[RemovableHandle] = []

    def before_train(self) -> None:
        """Registers the checks."""
        self._handles = [
            self.model.register_forward_pre_hook(self._remember),
            self.optimizer.register_step_pre_hook(self._check_gradients),
        ]

    def after_train(self) -> None:
        """Removes the checks; the last batch is kept."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _remember(self, model: nn.Module, args: tuple) -> None:
        if model.training:
            self.batch = args[0]

    @staticmethod
    def _check_gradients(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        parameters = (p for group in optimizer.param_groups for p in group["params"])
        norms = [torch.linalg.vector_norm(p.grad) for p in parameters if p.grad is not None]
        if norms and not torch.stack(norms).isfinite().all():  # a single device sync
            raise FloatingPointError("The gradients became infinite or NaN.")

    def explain(
        self, error: BaseException, cfg: CfgNode, *, storage: EventStorage, last_checkpoint: str
    ) -> DivergedError:
        """Saves the batch to OUTPUT_DIR and returns an error that says what to do.

        Args:
            error: error that stopped the training.
            cfg: config of the training.
            storage: event storage with its losses and learning rates.
            last_checkpoint: path of the last checkpoint, "" if there is none.
        """
        rank = f"_rank{comm.get_rank()}" if comm.get_rank() else ""
        path = os.path.join(cfg.OUTPUT_DIR, f"nonfinite_batch{rank}.pth")
        content = {"iteration": storage.iter, "error": str(error), "images": _plain(self.batch)}
        saved = f"The batch is in {path}."
        try:
            with whole_file(path) as file:
                torch.save(content, file)
        except WriteError as failure:
            saved = f"The batch could not be saved: {failure}"
        kept = "No checkpoint had been saved."
        if last_checkpoint:
            kept = f"The last checkpoint, {last_checkpoint}, is from before."
        history = storage.histories().get("total_loss")
        losses = [value for value, _ in history.values()] if history else []
        cause = likely_cause(self.batch, losses, cfg, iteration=storage.iter)
        reason = str(error).replace("\n", " ")
        return DivergedError(
            f"Training diverged at iteration {storage.iter}: {reason} {cause} {saved} {kept}"
        )


def _plain(batch: Sequence[dict]) -> list[dict]:
    """Converts a batch to tensors and plain values, which load with weights_only=True."""
    images = []
    for inputs in batch:
        plain = {k: inputs[k] for k in ("file_name", "image_id", "image") if k in inputs}
        if "instances" in inputs:
            plain["boxes"] = inputs["instances"].gt_boxes.tensor  # (N, 4), XYXY, pixels
            plain["classes"] = inputs["instances"].gt_classes
        images.append(plain)
    return images


def _bad_data(batch: Sequence[dict]) -> Iterator[str]:
    for inputs in _plain(batch):
        name = f"{inputs.get('file_name')} (image id {inputs.get('image_id')})"
        if not inputs["image"].isfinite().all():
            yield f"{name} has values that are not finite"
        boxes = inputs.get("boxes", torch.zeros(0, 4))
        sides = boxes[:, 2:] - boxes[:, :2]
        bad = ~(boxes.isfinite().all(1) & (sides > 0).all(1))
        if bad.any():
            yield f"{name} has the box {boxes[bad][0].tolist()} (x0, y0, x1, y1)"


def likely_cause(
    batch: Sequence[dict], losses: Sequence[float], cfg: CfgNode, *, iteration: int = 0
) -> str:
    """Explains the most likely cause of a divergence, in sentences for an error message.

    Args:
        batch: batch of the failed step.
        losses: total losses of the previous steps, since the start or the last --resume.
        cfg: config of the training.
        iteration: number of the failed step.
    """
    if bad := next(_bad_data(batch), None):
        return f"The cause is its data: {bad}; correct the annotations."
    if not losses and iteration:
        return (
            "It is the first step after resuming: check the images and boxes of this batch, or "
            "resume from an earlier checkpoint (write its name to last_checkpoint)."
        )
    if not losses:
        return (
            "No step had been made, so the learning rate is not the cause: check MODEL.WEIGHTS and "
            "MODEL.PIXEL_STD."
        )
    recent = losses[-_WINDOW:]
    middle = statistics.median(recent)
    amp = ""
    if cfg.SOLVER.AMP.ENABLED:
        amp = " Mixed precision overflows sooner: try SOLVER.AMP.ENABLED False."
    if len(losses) >= _WINDOW and max(recent) < 2 * middle:
        return (
            f"The losses before were steady at {middle:.3g}, so this batch is the likely cause: "
            f"check its images and boxes.{amp}"
        )
    return (
        f"The likely cause is the learning rate (SOLVER.BASE_LR {cfg.SOLVER.BASE_LR:g}): the loss "
        f"went from {recent[0]:.3g} to {recent[-1]:.3g} in the {len(recent)} iterations before. "
        "Take a tenth of it, a longer SOLVER.WARMUP_ITERS, or SOLVER.CLIP_GRADIENTS.ENABLED True."
        f"{amp}"
    )
