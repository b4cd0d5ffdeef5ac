"""Writes the HTML report of an evaluation."""

from collections.abc import Callable, Sequence

from detectron2.engine import HookBase
from detectron2.utils.events import EventWriter


class ReportHook(HookBase):
    """Writes the report that an evaluation has asked for, once metrics.json has its numbers.

    It stands behind the PeriodicWriter, which writes every so many iterations only: between those,
    this hook has the evaluation's numbers written, so that the report's curves include them.
    """

    def __init__(self, report: Callable[[], None], *, writers: Sequence[EventWriter]):
        """
        Args:
            report: writes it.
            writers: of metrics.json and the like; calling them twice in an iteration does no harm.
        """
        self.report = report
        self.writers = writers
        self.asked = False

    def ask(self) -> None:
        """Note that an evaluation has new results."""
        self.asked = True

    def after_step(self) -> None:
        """Write the numbers, then the report."""
        if self.asked:
            for writer in self.writers:
                writer.write()
            self._report()

    def after_train(self) -> None:
        """Write the last evaluation's report; its numbers are written, and the files closed."""
        if self.asked:
            self._report()

    def _report(self) -> None:
        self.asked = False
        self.report()
