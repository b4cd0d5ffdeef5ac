"""Logs of a run. Only this module changes the handlers of loggers.

detectron2 sets up the loggers under its own names: log.txt in OUTPUT_DIR and, on the main process,
standard output. log.txt takes all records of them, of this package and of other libraries, and the
console those that :mod:`.console` chooses.
"""

import contextlib
import logging
import sys
from collections.abc import Iterator

from detectron2.utils import comm
from detectron2.utils.events import CommonMetricPrinter
from detectron2.utils.logger import setup_logger

from resnest_d2 import progress
from resnest_d2.errors import printable

from .console import (
    Console,
    ConsoleHandler,
    LinesToLog,
    Notes,
    Sentences,
    Uncoloured,
    is_alarm,
    is_on_console,
    split_colours,
    verbose_handler,
)

_PACKAGE = __name__.partition(".")[0]
_LIBRARIES = ("", "torch", "py.warnings")  # "": all that have no handlers of their own
_libraries_before: dict[str, tuple[list[logging.Handler], bool]] = {}  # a run in this process
_console: Console | None = None  # of a run in this process
_begun: list[logging.Handler] = []  # this package's, set up by its last run


def begin_logs(output_dir: str, console: Console = Console.SHORT) -> None:
    """Sets up the logs of detectron2, fvcore and this package, which a run of this process begins.

    Args:
        output_dir: folder of log.txt.
        console: how much the main process prints; the others print nothing.
    """
    global _console
    _console = console
    rank, main = comm.get_rank(), comm.is_main_process()
    for name in ("fvcore", "detectron2"):  # without the file of an earlier run in this process
        logging.getLogger(name).handlers[:] = []
    setup_logger.cache_clear()
    # default_setup repeats these two calls, which then do nothing.
    setup_logger(output_dir, distributed_rank=rank, name="fvcore")
    setup_logger(output_dir, distributed_rank=rank)
    for name in ("fvcore", "detectron2"):
        logger = logging.getLogger(name)
        printers = [handler for handler in logger.handlers if is_on_console(handler)]
        if main and console is not Console.VERBOSE:
            printers = _short_handlers(console)
        elif printers:
            printers = [verbose_handler(printers[0].formatter)]
        logger.handlers[:] = [*printers, *_files(logger)]
        for handler in logger.handlers:
            handler.addFilter(_escaped)
        for handler in _files(logger):
            if not isinstance(handler.formatter, Uncoloured):
                handler.setFormatter(Uncoloured(handler.formatter))
    logger = logging.getLogger(_PACKAGE)
    handlers = logging.getLogger("detectron2").handlers
    others = (h for h in _files(logger) if h not in (*handlers, *_begun))
    logger.handlers[:] = [*handlers, *others]
    _begun[:] = logger.handlers
    logger.setLevel(logging.INFO)
    logger.propagate = False
    _log_libraries(printed=main and console is Console.VERBOSE)
    progress.show(bars=main and console > Console.QUIET, lines=main and console is Console.SHORT)


def _short_handlers(console: Console) -> list[logging.Handler]:
    """Handlers of a console that is not verbose: for notes and results, and for alarms."""
    notes, alarms = ConsoleHandler(sys.stdout), ConsoleHandler(sys.stderr)
    notes.addFilter(Notes(console))
    alarms.addFilter(is_alarm)
    for handler in (notes, alarms):
        handler.setFormatter(Sentences())
    return [notes, alarms]


def _files(logger: logging.Logger) -> list[logging.Handler]:
    return [handler for handler in logger.handlers if not is_on_console(handler)]


def _log_libraries(*, printed: bool) -> None:
    """Has the warnings of other libraries written to log.txt; and printed, if asked."""
    files = _files(logging.getLogger("detectron2"))
    for name in _LIBRARIES:
        logger = logging.getLogger(name)
        before = (list(logger.handlers), logger.propagate)
        own, _ = _libraries_before.setdefault(name, before)
        if name == "" and own:
            continue  # a program has set up its own logs
        printers = (own or [ConsoleHandler(sys.stderr)]) if printed else []
        logger.handlers[:] = [*printers, *files]
        logger.propagate = False
    logging.captureWarnings(True)


@contextlib.contextmanager
def ending_logs() -> Iterator[None]:
    """At the end of a run, leaves other libraries and the terminal as they were before it.

    The handlers of detectron2's and this package's loggers stay.
    """
    global _console
    try:
        yield
    finally:
        progress.close_all()
        progress.show()
        _console = None
        logging.captureWarnings(False)
        for name, (handlers, propagate) in _libraries_before.items():
            logger = logging.getLogger(name)
            logger.handlers[:], logger.propagate = handlers, propagate
        _libraries_before.clear()


def running_console() -> Console | None:
    """How much the run in this process prints; None if there is none that has begun its logs."""
    return _console


@contextlib.contextmanager
def prints_in_log() -> Iterator[None]:
    """Has what code of other libraries prints logged, unless the run prints everything."""
    if _console in (None, Console.VERBOSE):
        yield
        return
    with LinesToLog(logging.getLogger(f"{_PACKAGE}.printed")) as stream:
        with contextlib.redirect_stdout(stream):
            yield


@contextlib.contextmanager
def held_logs() -> Iterator[None]:
    """Holds the package's messages back until :func:`begin_logs` has set up where they go.

    Without it, after an error or in a dry run, the main process prints them to standard error.
    """
    logger = logging.getLogger(_PACKAGE)
    if _console is None and logger.handlers == _begun:  # of an earlier run, whose log is complete
        logger.handlers[:], logger.propagate = [], True
    if logger.handlers:  # set up by the run, or by a program
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


def _escaped(record: logging.LogRecord) -> bool:
    """Escapes control characters in a message, which names from files may hold."""
    parts = split_colours(record.getMessage())
    if record.name.startswith(_PACKAGE):
        parts = ["".join(parts)]
    parts[::2] = [printable(part, keep="\n\t") for part in parts[::2]]
    record.msg, record.args = "".join(parts), ()
    return True


def file_only_printer(max_iter: int) -> CommonMetricPrinter:
    """Builds a printer of detectron2's metrics for the log file only, for use with a bar."""
    printer = CommonMetricPrinter(max_iter)
    printer.logger = logging.getLogger(f"{_PACKAGE}.metrics")
    printer.logger.propagate = False
    printer.logger.setLevel(logging.INFO)
    printer.logger.handlers[:] = _files(logging.getLogger("detectron2"))
    return printer


def _has_no_traceback(record: logging.LogRecord) -> bool:
    return not (record.exc_info and record.name.startswith("detectron2"))


@contextlib.contextmanager
def tracebacks_in_file() -> Iterator[None]:
    """Keeps detectron2's tracebacks off the terminal; they are still in the log file.

    The exception propagates, and the caller reports it in one sentence.
    """
    handlers = [h for h in logging.getLogger("detectron2").handlers if is_on_console(h)]
    for handler in handlers:
        handler.addFilter(_has_no_traceback)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(_has_no_traceback)
