"""Errors that the user can mend, and how a program ends on these and on its own defects.

A :class:`UserError` is printed as its one sentence. Anything else is a defect of the program: its
traceback goes to the log, and the sentence names the error, its place in the code and the log.
"""

import logging
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

_LOGGERS = ("resnest_d2", "detectron2")  # the first that writes to a file has the run's log
_LONGEST = 300  # characters of a foreign message in a sentence
_PACKAGE = Path(__file__).parent
_ROOTS = (str(_PACKAGE.parent), *sorted(sys.path, key=len, reverse=True))

# Characters that steer a terminal or reorder a line, and halves of characters, which no file takes.
_STEERING = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u2028-\u202e\u2066-\u2069\ufff9-\ufffb\ud800-\udfff]"
)


def printable(text: object, keep: str = "") -> str:
    """A text from a file that is safe to print: control characters are escaped, like ``\\x1b``.

    Args:
        text: any text, or what is to be printed.
        keep: control characters that stay, such as a newline.
    """
    return _STEERING.sub(lambda found: _escaped(found[0], keep), str(text))


def _escaped(character: str, keep: str) -> str:
    return character if character in keep else character.encode("unicode_escape").decode()


class UserError(ValueError):
    """A mistake in the user's input: its message names the culprit and what to choose instead."""


class MissingFileError(UserError, FileNotFoundError):
    """A file or folder that the user named does not exist."""


class MissingPackageError(UserError, ImportError):
    """An optional package is needed; the message names the extra that installs it."""


class Defect(Exception):
    """Any other error, reported: its text is the sentence for the user.

    Attributes:
        traceback: of the error, as text; it is in the log already.
    """

    def __init__(self, sentence: str, traceback: str):
        """See the class."""
        super().__init__(sentence, traceback)  # which pickle hands over to another process
        self.traceback = traceback

    def __str__(self) -> str:
        return self.args[0]


def run_program(
    action: Callable[[], object],
    *,
    name: str,
    debug: bool = False,
    passed: tuple[type[BaseException], ...] = (),
) -> int:
    """Run a program's work and end it in one sentence on standard error where it fails.

    Args:
        action: the work.
        name: of the program; the sentence begins with it.
        debug: print the traceback, too.
        passed: exceptions that are left to the caller.

    Returns:
        The exit code: 0 done, 1 failed, 130 stopped by Ctrl-C or a signal.
    """
    try:
        action()
    except KeyboardInterrupt:
        return 130
    except passed:
        raise
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _output_is_closed():  # `| head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        told = error if isinstance(error, UserError) else report_defect(error)
        if debug:
            print(printable(traceback_of(told).rstrip(), keep="\n\t"), file=sys.stderr)
        print(printable(f"{name}: {told}", keep="\n\t"), file=sys.stderr)
        return 1
    return 0


def report_defect(error: BaseException) -> Defect:
    """Write an error's traceback to the log file, or without one to a file of its own.

    Args:
        error: that is no :class:`UserError`; a :class:`Defect` has been reported before.

    Returns:
        The same error with the sentence for the user.
    """
    if isinstance(error, Defect):
        return error
    text = traceback_of(error)
    sentence = (
        f"internal error: {type(error).__name__} at {_place(error)}: {_one_line(str(error))} "
    )
    try:
        sentence += f"The traceback is in {_log(error, text)}; --debug prints it here."
    except OSError as failure:  # no disk for it
        sentence += f"The log cannot be written ({failure}); this is the traceback:\n{text}"
    return Defect(sentence, text)


def traceback_of(error: BaseException) -> str:
    """An error's traceback as text, with those of its causes."""
    if isinstance(error, Defect):
        return error.traceback
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))


def _log(error: BaseException, text: str) -> str:
    """Log a traceback; the path of the file."""
    for name in _LOGGERS:
        for handler in reversed(logging.getLogger(name).handlers):
            path = getattr(getattr(handler, "stream", None), "name", None)
            if isinstance(path, str) and os.path.isfile(path):
                about = (type(error), error, error.__traceback__)
                told = ("", 0, "The run ended in an internal error:", (), about)
                handler.handle(logging.LogRecord(name, logging.ERROR, *told))
                handler.flush()
                return path
    number, path = tempfile.mkstemp(prefix="resnest-d2-", suffix=".txt", text=True)
    with open(number, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def _place(error: BaseException) -> str:
    """Where it was raised, ``torch/nn/functional.py:90``, and what of this package led there."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return "an unknown place"
    place = f"{_short(frames[-1].filename)}:{frames[-1].lineno}"
    ours = [f for f in frames if Path(f.filename).is_relative_to(_PACKAGE) and f.line]
    ours = [f for f in ours if f.filename != __file__]
    if ours and ours[-1] is not frames[-1]:
        place += f" (from {_short(ours[-1].filename)}:{ours[-1].lineno})"
    return place


def _short(path: str) -> str:
    """A source file's path below the folder that it is imported from."""
    root = next((r for r in _ROOTS if r and path.startswith(r + os.sep)), "")
    return path.removeprefix(root).lstrip(os.sep) if root else path


def _one_line(message: str) -> str:
    """A message's first and last line, which of a data worker's error is the one that counts."""
    lines = [line.strip() for line in message.splitlines() if line.strip()] or ["no message."]
    text = " ... ".join(dict.fromkeys((lines[0], lines[-1])))
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _output_is_closed() -> bool:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return True
    return False
