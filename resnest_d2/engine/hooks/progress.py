"""Progress of a training: a bar on a terminal, some lines elsewhere."""

import contextlib
import logging
from typing import Any

from detectron2.engine import HookBase
from tqdm.contrib.logging import logging_redirect_tqdm

from resnest_d2.progress import on_terminal, progress

from ..console import Console
from ..logs import running_console

_LINES = 16  # of a run of less than hours
_APS = {"bbox/AP": "box AP", "segm/AP": "mask AP"}


class ProgressBar(HookBase):
    """Iterations with ETA, loss and the last AP; log lines are printed above the bar.

    It must be the first hook, so that the bar is closed before the last evaluation.
    """

    _bar: Any = None

    def __init__(self, metric: str = "bbox/AP"):
        """
        Args:
            metric: name in the event storage of the AP to show.
        """
        self._metric = metric
        kind = "/".join(metric.split("/")[-2:])
        self._ap = _APS.get(kind, metric)

    @staticmethod
    def wanted() -> bool:
        """Whether there is a terminal, or a short console, which has no other lines."""
        console = running_console()
        return console is not Console.QUIET and (console is Console.SHORT or on_terminal())

    def before_train(self) -> None:
        """Shows the bar."""
        self._above: Any = contextlib.nullcontext()
        if running_console() is None:  # the handlers of a program
            names = ("detectron2", "resnest_d2", "fvcore")
            self._above = logging_redirect_tqdm([logging.getLogger(name) for name in names])
        self._above.__enter__()
        self._bar = progress(
            self.trainer.max_iter,
            "Iteration",
            initial=self.trainer.start_iter,
            number=_LINES,
            apart=0.0,
            unit="it",
            smoothing=0,  # the mean, as evaluations take time, too
        )

    def after_step(self) -> None:
        """Updates the bar."""
        latest = self.trainer.storage.latest()
        shown = {"total_loss": "loss {:.3g}", self._metric: self._ap + " {:.2f}"}
        texts = [text.format(latest[name][0]) for name, text in shown.items() if name in latest]
        self._bar.set_postfix_str(", ".join(texts), refresh=False)
        self._bar.update()

    def after_train(self) -> None:
        """Closes the bar without clearing it; also called when training fails."""
        if self._bar is not None:
            self._bar.close()
            self._above.__exit__(None, None, None)
