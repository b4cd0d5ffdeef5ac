"""Writes the HTML report of an evaluation."""

from collections.abc import Callable, Sequence

from detectron2.engine import HookBase
from detectron2.utils.events import EventWriter


class ReportHook(HookBase):
    """Writes the report of an evaluation, after its numbers are in metrics.json.

    It must follow the PeriodicWriter, which does not write in every iteration. If needed, this hook
    calls the writers first, so that the report's curves include the evaluation.
    """

    def __init__(self, report: Callable[[], None], *, writers: Sequence[EventWriter]):
        """
        Args:
            report: function that writes the report.
            writers: writers of metrics.json etc.; may be called twice in an iteration.
        """
        self.report = report
        self.writers = writers
        self.asked = False

    def ask(self) -> None:
        """Requests a report of a new evaluation."""
        self.asked = True

    def after_step(self) -> None:
        """Writes the numbers, then the report."""
        if self.asked:
            for writer in self.writers:
                writer.write()
            self._report()

    def after_train(self) -> None:
        """Writes the report of the last evaluation; the writers are closed by then."""
        if self.asked:
            self._report()

    def _report(self) -> None:
        self.asked = False
        self.report()
