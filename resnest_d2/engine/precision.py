"""Mixed precision on the CPU, which detectron2's AMPTrainer does not support."""

import contextlib
import logging
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from torch import nn

from resnest_d2.compat.detectron import training_on_cpu
from resnest_d2.deploy.cpu.abilities import abilities


class BFloat16Trainer(SimpleTrainer):
    """Runs the forward pass of every step under autocast to bfloat16.

    Weights, gradients and the optimizer stay float32. bfloat16 has float32's range, so the loss
    needs no scaling.
    """

    model: Any

    def run_step(self) -> None:
        """Runs one training step."""
        # Not for the whole step: the backward pass uses the dtypes of the forward pass.
        model = self.model
        self.model = _InBFloat16(model)
        try:
            super().run_step()
        finally:
            self.model = model


def on_its_device(cfg: CfgNode) -> contextlib.AbstractContextManager:
    """Context in which detectron2's DefaultTrainer is built for the device of a config.

    Logs a warning where SOLVER.AMP.ENABLED is slower than without.
    """
    if cfg.MODEL.DEVICE == "cpu" and cfg.SOLVER.AMP.ENABLED and "BF16" not in abilities():
        logging.getLogger(__name__).warning(
            "SOLVER.AMP.ENABLED is True, but this processor has no instructions for bfloat16 and "
            "emulates it, which is slower than float32: train with SOLVER.AMP.ENABLED False."
        )
    if cfg.MODEL.DEVICE == "cpu" and (cfg.SOLVER.AMP.ENABLED or comm.get_world_size() > 1):
        return training_on_cpu(BFloat16Trainer)
    return contextlib.nullcontext()


class _InBFloat16:
    """Wraps a model for a training step, which calls it and checks ``training``."""

    def __init__(self, model: nn.Module):
        self.model = model

    @property
    def training(self) -> bool:
        return self.model.training

    def __call__(self, data: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.model(data)
