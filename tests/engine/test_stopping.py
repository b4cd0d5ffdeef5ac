import logging
import signal

import pytest
import torch

from resnest_d2.engine import Trainer
from resnest_d2.engine.stopping import in_plain_words, undisturbed
from resnest_d2.errors import UserError


def test_signals_are_put_off_and_back():
    before = signal.getsignal(signal.SIGINT)
    with undisturbed():
        signal.raise_signal(signal.SIGINT)  # would be a KeyboardInterrupt
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGINT) is before


class Broken(torch.utils.data.Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise UserError("a.png cannot be used: no image.")


def test_a_workers_error_is_its_own_sentence():
    with pytest.raises(ValueError) as caught:
        list(torch.utils.data.DataLoader(Broken(), num_workers=1))
    assert "Traceback" in str(caught.value)
    assert str(in_plain_words(caught.value)) == "a.png cannot be used: no image."


def test_a_worker_that_was_stopped_stops_the_run(monkeypatch):
    by_signal = RuntimeError("DataLoader worker (pid 1) is killed by signal: Terminated. ")
    error = RuntimeError("DataLoader worker (pid(s) 1) exited unexpectedly")
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    assert isinstance(in_plain_words(error), UserError)
    assert "exited unexpectedly): the system may be out of memory" in str(in_plain_words(error))
    assert isinstance(in_plain_words(by_signal), KeyboardInterrupt)
    monkeypatch.setattr("time.sleep", lambda seconds: signal.raise_signal(signal.SIGINT))
    assert isinstance(in_plain_words(error), KeyboardInterrupt)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    error.__cause__ = by_signal
    assert isinstance(in_plain_words(error), KeyboardInterrupt)


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), ValueError("x"), OSError("y")])
def test_another_error_stays(error):
    assert in_plain_words(error) is error


def test_a_signal_waits_for_its_iteration_and_another_for_the_checkpoint(
    tiny_cfg, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(logging.getLogger("resnest_d2"), "propagate", True)
    caplog.set_level(logging.INFO)
    trainer = Trainer(tiny_cfg(SOLVER__MAX_ITER=4, DATASETS__TEST=()))
    save = trainer.checkpointer.save

    def interrupt(*_):
        if trainer.iter == 1:
            signal.raise_signal(signal.SIGINT)

    def interrupted(name, **kwargs):
        interrupt()
        save(name, **kwargs)

    trainer.model.register_forward_pre_hook(interrupt)  # the images of the iteration are loaded
    monkeypatch.setattr(trainer.checkpointer, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert "Stopped after 2 iterations; --resume continues" in caplog.text
    assert (tmp_path / "out" / "last_checkpoint").read_text() == "model_0000001.pth"
    saved = torch.load(tmp_path / "out" / "model_0000001.pth", weights_only=True)
    assert saved["iteration"] == 1
