import logging
import sys
import types

import pytest
from detectron2.utils.events import EventStorage

from resnest_d2.engine.console import Console
from resnest_d2.engine.hooks import ProgressBar, progress


def run(metric="bbox/AP", iterations=((2.0, None), (1.5, 12.345))):
    """A hook's iterations from number 5 on, each with its loss and AP, and a warning between."""
    bar = ProgressBar(metric)
    bar.trainer = types.SimpleNamespace(start_iter=5, max_iter=5 + len(iterations))
    with EventStorage(5) as bar.trainer.storage:
        bar.before_train()
        for loss, ap in iterations:
            bar.trainer.storage.put_scalar("total_loss", loss)
            if ap is not None:
                bar.trainer.storage.put_scalar(metric, ap)
            logging.getLogger("resnest_d2").warning("something to say")
            bar.after_step()
        bar.after_train()


def test_shows_loss_and_ap_and_prints_log_lines_above(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    logger = logging.getLogger("resnest_d2")
    logger.addHandler(handler := logging.StreamHandler(sys.stderr))
    try:
        run()
    finally:
        logger.removeHandler(handler)
    shown = capsys.readouterr().err
    assert "5/7" in shown and "7/7" in shown
    assert "loss 1.5, box AP 12.35" in shown.rpartition("\r")[2]
    assert "something to say\n" in shown


@pytest.mark.parametrize(
    ("metric", "words"), [("val/segm/AP", "mask AP 12.35"), ("other/mIoU", "other/mIoU 12.35")]
)
def test_prints_lines_on_a_pipe(metric, words, capsys):
    run(metric)
    lines = [line for line in capsys.readouterr().err.splitlines() if "Iteration" in line]
    assert [line.removesuffix(", 00:00 left") for line in lines] == [
        "Iteration 6/7, loss 2",
        f"Iteration 7/7, loss 1.5, {words}",
    ]


def test_prints_few_lines(capsys):
    run(iterations=[(1.0, None)] * 200)
    lines = [line for line in capsys.readouterr().err.splitlines() if "Iteration" in line]
    assert [line.split(",")[0] for line in lines[::7]] == [
        f"Iteration {n}/205" for n in (18, 109, 200)
    ]
    assert len(lines) == 15


def test_closes_where_training_failed_before_it_began():
    ProgressBar().after_train()


@pytest.mark.parametrize(
    ("console", "terminal", "wanted"),
    [
        (None, True, True),
        (None, False, False),  # a program has detectron2's lines
        (Console.SHORT, False, True),
        (Console.VERBOSE, False, False),
        (Console.VERBOSE, True, True),
        (Console.QUIET, True, False),
    ],
)
def test_is_for_terminals_and_short_consoles(console, terminal, wanted, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    monkeypatch.setattr(progress, "running_console", lambda: console)
    assert ProgressBar.wanted() is wanted
