"""Checkpointer of a training. With MODEL.EMA it saves the averaged weights."""

from typing import Any

from torch import nn

from resnest_d2.checkpoint import ReportingCheckpointer

from .hooks import WeightAverage


class AveragingCheckpointer(ReportingCheckpointer):
    """Saves the averaged weights as the model, so that checkpoints load like any other.

    The trained weights are saved in the state of the hook, so that a run resumes exactly.
    """

    def __init__(
        self, model: nn.Module, save_dir: str, *, ema: WeightAverage, **checkpointables: Any
    ):
        """
        Args:
            model: model that is trained.
            save_dir: folder of the checkpoints.
            ema: hook that averages the weights.
            **checkpointables: objects with a ``state_dict`` to save with the model.
        """
        super().__init__(model, save_dir, **checkpointables)
        self.ema = ema

    def save(self, name: str, **kwargs: Any) -> None:
        """See :meth:`SavingCheckpointer.save`."""
        with self.ema.applied():
            super().save(name, **kwargs)

    def save_weights(self, path: str, **kwargs: Any) -> None:
        """See :meth:`SavingCheckpointer.save_weights`."""
        with self.ema.applied():
            super().save_weights(path, **kwargs)


def build_checkpointer(
    model: nn.Module, save_dir: str, *, ema: WeightAverage | None, **checkpointables: Any
) -> ReportingCheckpointer:
    """Builds the checkpointer of a training.

    Arguments are those of :class:`AveragingCheckpointer`; ``ema`` is None without MODEL.EMA.
    """
    if ema is None:
        return ReportingCheckpointer(model, save_dir, **checkpointables)
    return AveragingCheckpointer(model, save_dir, ema=ema, **checkpointables)
