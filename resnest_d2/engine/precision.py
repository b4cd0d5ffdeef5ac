"""Mixed precision on the CPU, where detectron2's AMPTrainer refuses to run."""

from unittest import mock

import torch
from detectron2.engine import SimpleTrainer


class BFloat16Trainer(SimpleTrainer):
    """Runs the forward pass of every step in bfloat16 where torch holds that to be safe.

    Weights, gradients and the optimizer stay float32; bfloat16 has float32's range, so that the
    loss needs no scaling.
    """

    def run_step(self) -> None:
        """One step of training."""
        # Not around the whole step, because the backward pass takes its types from the forward.
        forward = torch.autocast("cpu", dtype=torch.bfloat16)(self.model.forward)
        with mock.patch.object(self.model, "forward", forward):
            super().run_step()
