"""Progress bar on a terminal."""

import logging
import sys
from typing import Any

from detectron2.engine import HookBase
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm


class ProgressBar(HookBase):
    """Progress bar with ETA, losses and learning rate; log lines are printed above it.

    It must be the first hook, so that the bar is closed before the last evaluation.
    """

    _bar: Any = None

    @staticmethod
    def wanted() -> bool:
        """Whether standard error is a terminal."""
        return sys.stderr.isatty()

    def before_train(self) -> None:
        """Shows the bar."""
        names = ("detectron2", "resnest_d2", "fvcore")
        self._redirect = logging_redirect_tqdm([logging.getLogger(name) for name in names])
        self._redirect.__enter__()
        self._bar = tqdm(
            total=self.trainer.max_iter,
            initial=self.trainer.start_iter,
            unit="it",
            dynamic_ncols=True,
            smoothing=0.1,
        )

    def after_step(self) -> None:
        """Updates the bar."""
        latest = self.trainer.storage.latest()
        losses = ["total_loss", *sorted(name for name in latest if name.startswith("loss_"))]
        shown = [name for name in (*losses, "lr") if name in latest]
        self._bar.set_postfix_str(
            ", ".join(f"{name.removeprefix('loss_')} {latest[name][0]:.3g}" for name in shown)
        )
        self._bar.update()

    def after_train(self) -> None:
        """Closes the bar without clearing it; also called when training fails."""
        if self._bar is not None:
            self._bar.close()
            self._redirect.__exit__(None, None, None)
