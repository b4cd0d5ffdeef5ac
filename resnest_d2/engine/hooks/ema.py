"""Exponential moving average of the weights, which is then evaluated and saved.

Polyak averaging with TensorFlow's warm-up of the decay: after t steps it is at most
(1 + t) / (10 + t), so that a short run averages over its last tenth, without the initial random
weights.
"""

import contextlib
from collections.abc import Iterator

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from torch import nn


class WeightAverage(HookBase):
    """Averages weights and buffers after every step.

    A checkpoint saved within :meth:`applied` has the average as its model, so that it loads like
    any other, and the trained weights in the state of this hook, so that a run resumes exactly.
    """

    def __init__(self, model: nn.Module, decay: float):
        """
        Args:
            model: model that is trained.
            decay: decay of the average in each step, after the warm-up.
        """
        self.model = model
        self.decay = decay
        self.steps = 0
        self.average: dict[str, torch.Tensor] | None = None
        self._own: dict[str, torch.Tensor] | None = None  # set while the model holds the average

    def _tensors(self) -> dict[str, torch.Tensor]:
        return self.model.state_dict(keep_vars=True)

    def _copy(self) -> dict[str, torch.Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self._tensors().items()}

    def before_train(self) -> None:
        """Starts from the loaded weights, unless a run is resumed."""
        if self.average is None:
            self.average = self._copy()

    @torch.no_grad()
    def after_step(self) -> None:
        """Updates the average."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        assert self.average is not None  # set in before_train
        for name, tensor in self._tensors().items():
            if tensor.is_floating_point():
                self.average[name].lerp_(tensor, 1 - decay)
            else:
                self.average[name].copy_(tensor)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Puts the average into the model within the context; may be nested."""
        if self._own is not None or self.average is None:
            yield
            return
        tensors = self._tensors()
        self._own = {name: tensor.data for name, tensor in tensors.items()}
        try:
            for name, tensor in tensors.items():
                tensor.data = self.average[name]
            yield
        finally:
            for name, tensor in tensors.items():
                tensor.data = self._own[name]
            self._own = None

    def state_dict(self) -> dict:
        """Returns the trained weights and the number of steps."""
        return {"weights": self._own or self.model.state_dict(), "steps": self.steps}

    def load_state_dict(self, state: dict) -> None:
        """Takes the average from the loaded model, and puts the trained weights back into it."""
        self.average = self._copy()
        self.model.load_state_dict(state["weights"])
        self.steps = state["steps"]


def build_ema(cfg: CfgNode, model: nn.Module) -> WeightAverage | None:
    """Builds the hook; returns None without MODEL.EMA.

    Args:
        cfg: config of the training.
        model: model that is trained, with or without DistributedDataParallel.
    """
    keys = cfg.MODEL.EMA
    return WeightAverage(getattr(model, "module", model), keys.DECAY) if keys.ENABLED else None
