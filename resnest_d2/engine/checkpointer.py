"""The checkpointer of a training; where the weights are averaged, it saves the average."""

from typing import Any

from torch import nn

from resnest_d2.checkpoint import ReportingCheckpointer

from .hooks import WeightAverage


class AveragingCheckpointer(ReportingCheckpointer):
    """Saves the average as the model, to be used as any other.

    The training's own weights are in the state of the hook, so that a run resumes exactly.
    """

    def __init__(
        self, model: nn.Module, save_dir: str, *, ema: WeightAverage, **checkpointables: Any
    ):
        """
        Args:
            model: whose weights are trained.
            save_dir: folder of the checkpoints.
            ema: their average.
            **checkpointables: what has a ``state_dict`` and is saved too.
        """
        super().__init__(model, save_dir, **checkpointables)
        self.ema = ema

    def save(self, name: str, **kwargs: Any) -> None:
        """As :meth:`SavingCheckpointer.save`."""
        with self.ema.applied():
            super().save(name, **kwargs)

    def save_weights(self, path: str, **kwargs: Any) -> None:
        """As :meth:`SavingCheckpointer.save_weights`."""
        with self.ema.applied():
            super().save_weights(path, **kwargs)


def build_checkpointer(
    model: nn.Module, save_dir: str, *, ema: WeightAverage | None, **checkpointables: Any
) -> ReportingCheckpointer:
    """The checkpointer of a training; arguments are those of :class:`AveragingCheckpointer`.

    ``ema`` is None where the weights are not averaged.
    """
    if ema is None:
        return ReportingCheckpointer(model, save_dir, **checkpointables)
    return AveragingCheckpointer(model, save_dir, ema=ema, **checkpointables)
