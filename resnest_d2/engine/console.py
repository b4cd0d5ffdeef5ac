"""What a run prints: which records of its log, how, and where.

The log file has all records. The console has what a user reads or acts on: records with
:data:`SHOWN` or :data:`RESULT`, this package's warnings, and errors without their tracebacks.
"""

import enum
import io
import logging
import os
import re
import sys
from typing import Any

from tqdm import tqdm

_PACKAGE = __name__.partition(".")[0]
_COLOUR = re.compile(r"(\x1b\[[0-9;]*m)")  # of detectron2's tables and configs


class Console(enum.IntEnum):
    """How much a run prints."""

    QUIET = 0
    SHORT = 1
    VERBOSE = 2

    @classmethod
    def of(cls, *, quiet: bool, verbose: bool) -> "Console":
        """The one that two options ask for, of which at most one is given."""
        return cls.QUIET if quiet else cls.VERBOSE if verbose else cls.SHORT


# ``extra`` of a record that is printed, too: unless a run is quiet, or in any case.
SHOWN: dict[str, object] = {"console": Console.SHORT}
RESULT: dict[str, object] = {"console": Console.QUIET}


class ConsoleHandler(logging.StreamHandler):
    """Prints records above the progress bar, which stays in one piece."""

    def emit(self, record: logging.LogRecord) -> None:
        with tqdm.external_write_mode(file=self.stream):
            super().emit(record)


class Notes(logging.Filter):
    """Passes records below a warning that are made for the console."""

    def __init__(self, console: Console):
        """
        Args:
            console: how much is printed.
        """
        super().__init__()
        self._console = console

    def filter(self, record: logging.LogRecord) -> bool:
        wanted = getattr(record, "console", Console.VERBOSE)
        return record.levelno < logging.WARNING and wanted <= self._console


def is_alarm(record: logging.LogRecord) -> bool:
    """Whether a record is a warning of this package, or an error that is not reported otherwise."""
    ours = record.name.partition(".")[0] == _PACKAGE
    if record.exc_info and not ours:
        return False  # the caller reports it in a sentence
    return record.levelno >= (logging.WARNING if ours else logging.ERROR)


class Sentences(logging.Formatter):
    """Messages alone, of warnings and errors with their level; no times and no tracebacks."""

    def format(self, record: logging.LogRecord) -> str:
        if record.levelno < logging.WARNING:
            return record.getMessage()
        return f"{record.levelname.lower()}: {record.getMessage()}"


class Uncoloured(logging.Formatter):
    """Another formatter's text without colours."""

    def __init__(self, inner: logging.Formatter | None):
        """
        Args:
            inner: the formatter; logging's default if there is none.
        """
        super().__init__()
        self._inner = inner or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        return _COLOUR.sub("", self._inner.format(record))


def split_colours(text: str) -> list[str]:
    """A text's parts, of which every second is a colour."""
    return _COLOUR.split(text)


def takes_colours(stream: Any) -> bool:
    """Whether a stream is a terminal, and the user has not set NO_COLOR (https://no-color.org)."""
    return not os.environ.get("NO_COLOR") and hasattr(stream, "isatty") and stream.isatty()


def is_on_console(handler: logging.Handler) -> bool:
    """Whether a handler prints to standard output or standard error."""
    stream = getattr(handler, "stream", None)
    return isinstance(handler, ConsoleHandler) or stream in (sys.stdout, sys.stderr)


def verbose_handler(formatter: logging.Formatter | None) -> logging.Handler:
    """Handler that prints every record in a given format."""
    handler = ConsoleHandler(sys.stdout)
    coloured = formatter and takes_colours(sys.stdout)
    handler.setFormatter(formatter if coloured else Uncoloured(formatter))
    return handler


class LinesToLog(io.TextIOBase):
    """A standard output whose lines are logged."""

    def __init__(self, logger: logging.Logger):
        """
        Args:
            logger: where to.
        """
        self._logger = logger
        self._rest = ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in filter(str.strip, lines):
            self._logger.info(line)
        return len(text)

    def close(self) -> None:
        """Logs a last line without an end."""
        if self._rest:
            self.write("\n")
        super().close()
