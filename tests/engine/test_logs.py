"""Handlers of detectron2's loggers: begun once, shared, told apart by where they write."""

import logging
import logging.handlers
import sys

import pytest
import small
from detectron2.utils.logger import setup_logger

from resnest_d2.engine.logs import begin_logs, file_only_printer, held_logs, tracebacks_in_file


@pytest.fixture
def folder(tmp_path):
    """Where log.txt goes; the handlers of other tests are put away."""
    small.forget_logs()
    yield tmp_path
    small.forget_logs()


def test_all_packages_write_to_one_file_once(folder, capsys):
    for _ in range(2):
        begin_logs(str(folder))
    setup_logger(str(folder), distributed_rank=0)  # as default_setup does
    setup_logger(str(folder), distributed_rank=0, name="fvcore")
    names = ("detectron2", "fvcore", "resnest_d2")
    for name in names:
        logging.getLogger(f"{name}.part").info(f"said by {name}")
    shown, written = capsys.readouterr().out, (folder / "log.txt").read_text()
    for name in names:
        assert shown.count(f"said by {name}") == written.count(f"said by {name}") == 1


def test_what_was_logged_before_is_in_the_file_once(folder, capsys):
    with held_logs():
        logging.getLogger("resnest_d2.data").info("read as 96")
        assert "read as" not in "".join(capsys.readouterr())
        begin_logs(str(folder))
        logging.getLogger("resnest_d2.data").info("after")
    shown, written = capsys.readouterr().out, (folder / "log.txt").read_text()
    for text in ("read as 96", "after"):
        assert shown.count(text) == written.count(text) == 1


def test_what_was_logged_before_an_error_is_printed(folder, capsys, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's
    with pytest.raises(ZeroDivisionError), held_logs():
        logging.getLogger("resnest_d2.data").info("read as 96")
        raise ZeroDivisionError
    assert capsys.readouterr().err == "read as 96\n"
    assert logging.getLogger("resnest_d2").handlers == []


def test_detectron2s_tracebacks_are_in_the_file_alone(folder, capsys):
    begin_logs(str(folder))
    logger = logging.getLogger("detectron2.engine")
    with tracebacks_in_file():
        for error in (ValueError("of the user"), ZeroDivisionError("of ours")):
            logger.error("Exception during training:", exc_info=error)
    shown, written = capsys.readouterr().out, (folder / "log.txt").read_text()
    assert "of ours" not in shown and "of the user" not in shown
    assert "of ours" in written and "of the user" in written
    logger.error("later", exc_info=ValueError("shown again"))
    assert "shown again" in capsys.readouterr().out


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
