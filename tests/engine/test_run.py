"""What several processes hand to the one that started them."""

import argparse
import queue
import sys

import pytest
from torch.multiprocessing.spawn import ProcessExitedException

from resnest_d2.engine import launch
from resnest_d2.errors import Defect, MissingFileError, UserError

module = sys.modules["resnest_d2.engine.run"]


@pytest.fixture
def errors(monkeypatch):
    """The queue between the processes, without any."""
    told = queue.SimpleQueue()
    context = argparse.Namespace(SimpleQueue=lambda: told)
    monkeypatch.setattr(module.torch.multiprocessing, "get_context", lambda method: context)
    monkeypatch.setattr(module.signal, "signal", lambda *args: None)
    return told


def start(monkeypatch, error):
    """Launch two processes of which the first raises an error."""

    def fail(*args):
        raise error

    def spawn(function, number, *, args, **kwargs):
        with pytest.raises(SystemExit):
            function(*args)
        raise ProcessExitedException("exited", error_index=0, error_pid=1, exit_code=1)

    monkeypatch.setattr(module, "run", fail)
    monkeypatch.setattr(module, "detectron2_launch", spawn)
    monkeypatch.setattr(module.torch.cuda, "device_count", lambda: 0)
    launch(argparse.Namespace(num_gpus=2, num_machines=1, machine_rank=0, dist_url="auto"))


def test_a_mistake_stays_one(errors, monkeypatch):
    with pytest.raises(UserError, match="^a.json is gone$"):
        start(monkeypatch, MissingFileError("a.json is gone"))


@pytest.mark.parametrize("kind", [ValueError, OSError, RuntimeError])
def test_a_defect_comes_with_its_traceback(kind, errors, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(Defect, match=f"internal error: {kind.__name__} at .*test_run.py") as caught:
        start(monkeypatch, kind("planted"))
    (log,) = tmp_path.iterdir()
    assert "in fail" in log.read_text() and "in fail" in caught.value.traceback


def test_a_signal_stops_the_run(errors, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        start(monkeypatch, KeyboardInterrupt())


def test_a_process_that_the_system_ended_is_named(errors, monkeypatch):
    def spawn(*args, **kwargs):
        raise ProcessExitedException(
            "killed", error_index=1, error_pid=1, exit_code=-9, signal_name="SIGKILL"
        )

    monkeypatch.setattr(module, "detectron2_launch", spawn)
    monkeypatch.setattr(module.torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UserError, match="Process 1 was killed: the system may be out of memory"):
        launch(argparse.Namespace(num_gpus=2, num_machines=1, machine_rank=0, dist_url="auto"))
