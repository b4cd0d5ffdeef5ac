import logging
import sys
import types

from detectron2.utils.events import EventStorage

from resnest_d2.engine.hooks import ProgressBar


def test_shows_losses_and_prints_log_lines_above(capsys):
    logger = logging.getLogger("resnest_d2")
    logger.addHandler(handler := logging.StreamHandler(sys.stderr))
    bar = ProgressBar()
    bar.trainer = types.SimpleNamespace(start_iter=5, max_iter=7)
    try:
        with EventStorage(5) as bar.trainer.storage:
            bar.before_train()
            for loss in (2.0, 1.5):
                for name, value in (("total_loss", loss), ("loss_cls", 1.0), ("lr", 0.01)):
                    bar.trainer.storage.put_scalar(name, value)
                logger.warning("something to say")
                bar.after_step()
            bar.after_train()
    finally:
        logger.removeHandler(handler)
    shown = capsys.readouterr().err
    assert "5/7" in shown and "7/7" in shown
    assert "total_loss 1.5, cls 1, lr 0.01" in shown
    assert "something to say\n" in shown


def test_closes_where_training_failed_before_it_began():
    ProgressBar().after_train()


def test_is_for_terminals(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert ProgressBar.wanted()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    assert not ProgressBar.wanted()
