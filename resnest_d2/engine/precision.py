"""Mixed precision on the CPU, where detectron2's AMPTrainer refuses to run."""

from typing import Any

import torch
from detectron2.engine import SimpleTrainer
from torch import nn


class BFloat16Trainer(SimpleTrainer):
    """Runs the forward pass of every step in bfloat16 where torch holds that to be safe.

    Weights, gradients and the optimizer stay float32; bfloat16 has float32's range, so that the
    loss needs no scaling.
    """

    model: Any

    def run_step(self) -> None:
        """One step of training."""
        # Not around the whole step, because the backward pass takes its types from the forward.
        model = self.model
        self.model = _InBFloat16(model)
        try:
            super().run_step()
        finally:
            self.model = model


class _InBFloat16:
    """A model as a step of training uses it: called, and asked whether it is in training mode."""

    def __init__(self, model: nn.Module):
        self.model = model

    @property
    def training(self) -> bool:
        return self.model.training

    def __call__(self, data: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.model(data)
