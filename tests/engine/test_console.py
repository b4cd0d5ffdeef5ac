"""What of a log is printed, and in which form."""

import io
import logging
import sys

import pytest

from resnest_d2.engine.console import (
    RESULT,
    SHOWN,
    Console,
    LinesToLog,
    Notes,
    Sentences,
    Uncoloured,
    is_alarm,
    is_on_console,
    takes_colours,
    verbose_handler,
)


def record(level=logging.INFO, name="resnest_d2.part", message="%s words", error=None, **extra):
    made = logging.LogRecord(name, level, "", 1, message, ("two",), error)
    vars(made).update(extra)
    return made


@pytest.mark.parametrize(
    ("quiet", "verbose", "console"),
    [
        (False, False, Console.SHORT),
        (True, False, Console.QUIET),
        (False, True, Console.VERBOSE),
    ],
)
def test_options(quiet, verbose, console):
    assert Console.of(quiet=quiet, verbose=verbose) is console


@pytest.mark.parametrize(
    ("extra", "consoles"),
    [
        ({}, [Console.VERBOSE]),
        (SHOWN, [Console.SHORT, Console.VERBOSE]),
        (RESULT, [Console.QUIET, Console.SHORT, Console.VERBOSE]),
    ],
)
def test_notes(extra, consoles):
    assert [c for c in Console if Notes(c).filter(record(**extra))] == consoles
    warning = record(logging.WARNING, **extra)
    assert not any(Notes(console).filter(warning) for console in Console)


def test_alarms():
    error = (ValueError, ValueError("why"), None)
    assert is_alarm(record(logging.WARNING)) and is_alarm(record(logging.ERROR, error=error))
    assert not is_alarm(record(logging.INFO, **RESULT))
    for name in ("detectron2.data", "fvcore.common", "resnest_d2x"):
        assert not is_alarm(record(logging.WARNING, name))
        assert is_alarm(record(logging.ERROR, name))
        assert not is_alarm(record(logging.ERROR, name, error=error))


def test_sentences_have_no_times_and_no_tracebacks():
    error = (ValueError, ValueError("why"), None)
    assert Sentences().format(record(error=error)) == "two words"
    assert Sentences().format(record(logging.WARNING)) == "warning: two words"
    assert Sentences().format(record(logging.ERROR, error=error)) == "error: two words"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "variable", "coloured"),
    [
        (Terminal(), "", True),
        (Terminal(), "1", False),  # https://no-color.org
        (io.StringIO(), "", False),
        (object(), "", False),
    ],
)
def test_colours_are_for_terminals_of_users_who_want_them(stream, variable, coloured, monkeypatch):
    monkeypatch.setenv("NO_COLOR", variable)
    assert takes_colours(stream) is coloured
    if hasattr(stream, "write"):
        monkeypatch.setattr(sys, "stdout", stream)
        handler = verbose_handler(logging.Formatter("\x1b[32mnow\x1b[0m %(message)s"))
        assert is_on_console(handler)
        handler.handle(record())
        shown = stream.getvalue().splitlines()[-1]
        assert shown == ("\x1b[32mnow\x1b[0m two words" if coloured else "now two words")


def test_the_files_formatter_loses_only_colours():
    formatter = Uncoloured(logging.Formatter("[%(name)s] %(message)s"))
    assert formatter.format(record(message="\x1b[38;5;204m%s\x1b[39m [3m")) == (
        "[resnest_d2.part] two [3m"
    )
    assert Uncoloured(None).format(record()) == "two words"


def test_printed_lines_are_logged():
    seen = []
    logger = logging.Logger("printed")
    logger.addHandler(handler := logging.Handler())
    handler.emit = lambda record: seen.append(record.getMessage())
    stream = LinesToLog(logger)
    for text in ("Loading", " results...\nDONE", "\n\n", "no end"):
        stream.write(text)
    assert seen == ["Loading results...", "DONE"]
    stream.close()
    assert seen[-1] == "no end"
