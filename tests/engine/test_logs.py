"""Handlers of detectron2's loggers: begun once, shared, told apart by where they write."""

import logging
import logging.handlers
import sys
import warnings

import pytest
import small
from detectron2.utils.logger import setup_logger

from resnest_d2 import progress
from resnest_d2.engine.console import RESULT, SHOWN, Console
from resnest_d2.engine.logs import (
    begin_logs,
    ending_logs,
    file_only_printer,
    held_logs,
    prints_in_log,
    running_console,
    tracebacks_in_file,
)

PACKAGES = ("detectron2", "fvcore", "resnest_d2")


@pytest.fixture
def folder(tmp_path):
    """Where log.txt goes; the handlers of other tests are put away."""
    small.forget_logs()
    yield tmp_path
    small.forget_logs()


def test_all_packages_write_to_one_file_once(folder, capsys):
    for _ in range(2):
        begin_logs(str(folder), Console.VERBOSE)
    setup_logger(str(folder), distributed_rank=0)  # as default_setup does
    setup_logger(str(folder), distributed_rank=0, name="fvcore")
    for name in PACKAGES:
        logging.getLogger(f"{name}.part").info(f"said by {name}")
    shown, written = capsys.readouterr().out, (folder / "log.txt").read_text()
    for name in PACKAGES:
        assert shown.count(f"said by {name}") == written.count(f"said by {name}") == 1


SHORT = """warning: of resnest_d2
error: of resnest_d2
error: of detectron2
error: of fvcore
""".splitlines()


@pytest.mark.parametrize(
    ("console", "out", "err"),
    [
        (Console.QUIET, ["a result"], SHORT),
        (Console.SHORT, ["a note", "a result"], SHORT),
        (Console.VERBOSE, None, []),
    ],
)
def test_the_console_has_what_a_user_acts_on_and_the_file_all(folder, capsys, console, out, err):
    begin_logs(str(folder), console)
    assert running_console() is console
    for name in ("resnest_d2", "detectron2", "fvcore"):
        logger = logging.getLogger(f"{name}.part")
        logger.info("\x1b[31mof " + name)
        logger.warning(f"of {name}")
        logger.error(f"of {name}")
    logging.getLogger("resnest_d2.part").info("a note", extra=SHOWN)
    logging.getLogger("resnest_d2.part").info("a result", extra=RESULT)
    shown, written = capsys.readouterr(), (folder / "log.txt").read_text()
    assert written.count("of ") == 9 and "a note" in written and "a result" in written
    assert "\x1b[" not in written + shown.out + shown.err  # no colours: these are no terminals
    assert sorted(shown.err.splitlines()) == sorted(err)
    if out is None:
        assert len(shown.out.splitlines()) == len(written.splitlines()) == 11
    else:
        assert shown.out.splitlines() == out


@pytest.mark.parametrize("console", list(Console))
def test_warnings_of_libraries_are_in_the_file(folder, capsys, console, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's
    before = warnings.showwarning, logging.getLogger("torch").handlers[:]
    with warnings.catch_warnings(), ending_logs():
        warnings.simplefilter("always")
        begin_logs(str(folder), console)
        warnings.warn("torch.meshgrid: in an upcoming release", UserWarning, stacklevel=1)
        logging.getLogger("torch.utils").warning("No CUDA runtime is found")
        logging.getLogger("some.other.library").warning("said by another")
    shown, written = "".join(capsys.readouterr()), (folder / "log.txt").read_text()
    for text in ("torch.meshgrid: in an upcoming release", "No CUDA", "said by another"):
        assert written.count(f": {text}") == 1
        if text != "No CUDA":  # whose own handler has another standard error
            assert (text in shown) == (console is Console.VERBOSE)
    assert (warnings.showwarning, logging.getLogger("torch").handlers) == before
    assert logging.getLogger().handlers == [] and running_console() is None


def test_importing_the_package_leaves_warnings_alone(folder):
    assert logging.getLogger("py.warnings").handlers == [] or running_console() is None
    assert warnings.showwarning.__module__ != "logging"


def test_warnings_of_a_module_are_in_one_piece_with_a_bar(folder, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    begin_logs(str(folder))
    with progress.progress(3, "Images") as bar:
        bar.update()
        logging.getLogger("resnest_d2.part").warning("something to act on")
        bar.update()
    shown = capsys.readouterr().err
    before, _, after = shown.partition("warning: something to act on\n")
    assert before.endswith("\r") and "Images" in before.split("\r")[-3]  # cleared
    assert after.startswith("\r") and "Images" in after


def test_other_libraries_prints_are_logged(folder, capsys):
    with prints_in_log():
        print("before any run")
    assert capsys.readouterr().out == "before any run\n"
    begin_logs(str(folder))
    with prints_in_log():
        print("Average Precision", "(AP)")
        logging.getLogger("resnest_d2.part").info("a note", extra=SHOWN)
    print("and after")
    assert capsys.readouterr().out.splitlines() == ["a note", "and after"]
    assert "INFO: Average Precision (AP)\n" in (folder / "log.txt").read_text()


def test_what_was_logged_before_is_in_the_file_once(folder, capsys):
    with held_logs():
        logging.getLogger("resnest_d2.data").info("read as 96")
        assert "read as" not in "".join(capsys.readouterr())
        begin_logs(str(folder), Console.VERBOSE)
        logging.getLogger("resnest_d2.data").info("after")
    shown, written = capsys.readouterr().out, (folder / "log.txt").read_text()
    for text in ("read as 96", "after"):
        assert shown.count(text) == written.count(text) == 1


def test_what_was_logged_before_an_error_is_printed(folder, capsys, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's
    with pytest.raises(ZeroDivisionError), held_logs():
        logging.getLogger("resnest_d2.data").info("read \x1b[2J as 96")
        raise ZeroDivisionError
    assert capsys.readouterr().err == "read \\x1b[2J as 96\n"
    assert logging.getLogger("resnest_d2").handlers == []


def test_detectron2s_tracebacks_are_in_the_file_alone(folder, capsys):
    begin_logs(str(folder), Console.VERBOSE)
    logger = logging.getLogger("detectron2.engine")
    with tracebacks_in_file():
        for error in (ValueError("of the user"), ZeroDivisionError("of ours")):
            logger.error("Exception during training:", exc_info=error)
    shown, written = capsys.readouterr().out, (folder / "log.txt").read_text()
    assert "of ours" not in shown and "of the user" not in shown
    assert "of ours" in written and "of the user" in written
    logger.error("later", exc_info=ValueError("shown again"))
    assert "shown again" in capsys.readouterr().out


def test_our_errors_are_printed_without_their_traceback(folder, capsys):
    begin_logs(str(folder))
    logging.getLogger("resnest_d2.part").error("no report", exc_info=ValueError("why"))
    logging.getLogger("detectron2.part").error("of a loop", exc_info=ValueError("why"))
    assert capsys.readouterr().err == "error: no report\n"
    assert (folder / "log.txt").read_text().count("ValueError: why") == 2


def test_lines_of_metrics_go_to_files_alone(tmp_path):
    logger = logging.getLogger("detectron2")
    file = logging.FileHandler(tmp_path / "log.txt")
    handlers = [logging.StreamHandler(sys.stdout), file]
    for handler in handlers:
        logger.addHandler(handler)
    logger.addHandler(memory := logging.handlers.MemoryHandler(1))  # has no stream
    try:
        kept = file_only_printer(5).logger.handlers
        assert file in kept and memory in kept and handlers[0] not in kept
    finally:
        for handler in (*handlers, memory):
            logger.removeHandler(handler)
            logging.getLogger("resnest_d2.metrics").removeHandler(handler)
        file.close()
