"""Logs of a run. Only this module changes the handlers of detectron2's loggers.

detectron2 sets up the loggers under its own names: log.txt in OUTPUT_DIR and, on the main process,
standard output.
"""

import contextlib
import logging
import re
import sys
from collections.abc import Iterator

from detectron2.utils import comm
from detectron2.utils.events import CommonMetricPrinter
from detectron2.utils.logger import setup_logger

from resnest_d2.errors import printable

_PACKAGE = __name__.partition(".")[0]


def begin_logs(output_dir: str) -> None:
    """Sets up the logs of detectron2, fvcore and this package; repeated calls do nothing.

    Args:
        output_dir: folder of log.txt.
    """
    rank = comm.get_rank()
    # default_setup repeats these two calls, which then do nothing.
    setup_logger(output_dir, distributed_rank=rank, name="fvcore")
    setup_logger(output_dir, distributed_rank=rank)
    for name in ("fvcore", "detectron2"):
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(_escaped)
    if not comm.is_main_process():
        return
    logger = logging.getLogger(_PACKAGE)
    for handler in logging.getLogger("detectron2").handlers:
        if handler not in logger.handlers:
            logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


@contextlib.contextmanager
def held_logs() -> Iterator[None]:
    """Holds the package's messages back until :func:`begin_logs` has set up where they go.

    Without it, after an error or in a dry run, the main process prints them to standard error.
    """
    logger = logging.getLogger(_PACKAGE)
    if logger.handlers:  # set up by an earlier run of this process, or by a program
        yield
        return
    held, level = _Held(), logger.level
    logger.addHandler(held)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(held)
        begun = logger.handlers or logging.getLogger().handlers
        if not begun:
            logger.setLevel(level)
        for record in held.records if comm.is_main_process() else ():
            if logger.handlers:
                logger.handle(record)
            elif not begun:
                print(printable(record.getMessage(), keep="\n\t"), file=sys.stderr)


class _Held(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        if logging.getLogger(_PACKAGE).handlers == [self]:
            self.records.append(record)


_COLOUR = re.compile(r"(\x1b\[[0-9;]*m)")  # in detectron2's own tables


def _escaped(record: logging.LogRecord) -> bool:
    """Escapes control characters in a message, which names from files may hold."""
    parts = _COLOUR.split(record.getMessage())
    if record.name.startswith(_PACKAGE):
        parts = ["".join(parts)]
    parts[::2] = [printable(part, keep="\n\t") for part in parts[::2]]
    record.msg, record.args = "".join(parts), ()
    return True


def _on_terminal(handler: logging.Handler) -> bool:
    return getattr(handler, "stream", None) in (sys.stdout, sys.stderr)


def file_only_printer(max_iter: int) -> CommonMetricPrinter:
    """Builds a printer of detectron2's metrics for the log file only, for use with a bar."""
    printer = CommonMetricPrinter(max_iter)
    printer.logger = logging.getLogger(f"{_PACKAGE}.metrics")
    printer.logger.propagate = False
    printer.logger.setLevel(logging.INFO)
    for handler in logging.getLogger("detectron2").handlers:
        if not _on_terminal(handler):
            printer.logger.addHandler(handler)
    return printer


def _has_no_traceback(record: logging.LogRecord) -> bool:
    return not (record.exc_info and record.name.startswith("detectron2"))


@contextlib.contextmanager
def tracebacks_in_file() -> Iterator[None]:
    """Keeps detectron2's tracebacks off the terminal; they are still in the log file.

    The exception propagates, and the caller reports it in one sentence.
    """
    handlers = [h for h in logging.getLogger("detectron2").handlers if _on_terminal(h)]
    for handler in handlers:
        handler.addFilter(_has_no_traceback)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(_has_no_traceback)
