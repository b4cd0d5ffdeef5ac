"""Writers of a training's metrics besides the log, metrics.json and TensorBoard."""

import logging
import os
from collections import defaultdict
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from detectron2.config import CfgNode
from detectron2.utils.events import EventWriter, get_event_storage

_KEY = "WANDB_API_KEY"


class WandbWriter(EventWriter):
    """Sends scalars to Weights & Biases; if that fails, training continues without it."""

    def __init__(self, cfg: CfgNode):
        """
        Args:
            cfg: config of the training, saved with the W&B run, which is named by OUTPUT_DIR.
        """
        self._run: Any = None
        self._last = -1
        self._try(self._begin, cfg)

    def _begin(self, cfg: CfgNode) -> None:
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "resnest_d2"),
            name=os.path.basename(os.path.abspath(cfg.OUTPUT_DIR)),
            dir=cfg.OUTPUT_DIR,
            config=cfg,
        )

    def _try(self, action: Callable[..., None], *args: Any) -> None:
        try:
            action(*args)
        except Exception as error:  # wandb raises many types; none of them should stop a training
            self._run = None
            logging.getLogger(__name__).warning(
                "Weights & Biases is disabled for the rest of this run: "
                f"{type(error).__name__}: {error}"
            )

    def write(self) -> None:
        """Sends new values of the storage."""
        if self._run is not None:
            self._try(self._send)

    def _send(self) -> None:
        new: dict[int, dict[str, float]] = defaultdict(dict)  # by iteration
        for name, (value, iteration) in get_event_storage().latest_with_smoothing_hint().items():
            if iteration > self._last:
                new[iteration][name] = value
        for iteration in sorted(new):  # W&B requires ascending steps
            self._run.log(new[iteration], step=iteration)
            self._last = iteration

    def close(self) -> None:
        """Finishes the W&B run."""
        if self._run is not None:
            self._try(self._run.finish)


def wandb_writers(cfg: CfgNode) -> list[EventWriter]:
    """Builds a :class:`WandbWriter` if WANDB_API_KEY is set and wandb is installed."""
    if not os.environ.get(_KEY):
        return []
    if find_spec("wandb") is None:
        logging.getLogger(__name__).warning(
            f"{_KEY} is set, but wandb is not installed: pip install 'resnest-d2[wandb]'"
        )
        return []
    return [WandbWriter(cfg)]
