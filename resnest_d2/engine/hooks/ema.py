"""The moving average of a training's weights, which is what is evaluated and kept.

As in Polyak averaging, with TensorFlow's warm-up of the decay: after t steps it is at most
(1 + t) / (10 + t), so that the average is over the last tenth of a short run, and not over
random weights.
"""

import contextlib
from collections.abc import Iterator

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from torch import nn


class WeightAverage(HookBase):
    """Averages weights and buffers after every step.

    A checkpoint saved within :meth:`applied` has the average as its model, to be used as any other,
    and the training's own weights in the state of this hook, so that a run resumes exactly.
    """

    def __init__(self, model: nn.Module, decay: float):
        """
        Args:
            model: whose weights are trained.
            decay: of the average in each step, after the warm-up.
        """
        self.model = model
        self.decay = decay
        self.steps = 0
        self.average: dict[str, torch.Tensor] | None = None
        self._own: dict[str, torch.Tensor] | None = None  # while the model holds the average

    def _tensors(self) -> dict[str, torch.Tensor]:
        return self.model.state_dict(keep_vars=True)

    def _copy(self) -> dict[str, torch.Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self._tensors().items()}

    def before_train(self) -> None:
        """Begin with the weights as loaded, unless a run is resumed."""
        if self.average is None:
            self.average = self._copy()

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the average towards the weights."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        assert self.average is not None  # since before_train
        for name, tensor in self._tensors().items():
            if tensor.is_floating_point():
                self.average[name].lerp_(tensor, 1 - decay)
            else:
                self.average[name].copy_(tensor)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The model holds the average; may be nested."""
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
        """The training's own weights and the number of steps."""
        return {"weights": self._own or self.model.state_dict(), "steps": self.steps}

    def load_state_dict(self, state: dict) -> None:
        """Take the average from the model, as loaded, and give it the training's weights back."""
        self.average = self._copy()
        self.model.load_state_dict(state["weights"])
        self.steps = state["steps"]


def build_ema(cfg: CfgNode, model: nn.Module) -> WeightAverage | None:
    """The hook; None without MODEL.EMA.

    Args:
        cfg: config of the training.
        model: that is trained, in DistributedDataParallel or not.
    """
    keys = cfg.MODEL.EMA
    return WeightAverage(getattr(model, "module", model), keys.DECAY) if keys.ENABLED else None
