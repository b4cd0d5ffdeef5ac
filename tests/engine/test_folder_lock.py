"""One run in a folder at a time."""

import json
import os
import signal
import subprocess
import sys

import pytest

from resnest_d2.engine import folder_lock
from resnest_d2.engine.folder_lock import NAME, FolderInUseError, lock_folder, unlock_folder

# A process that locks the file as a run does, without torch; it ends with its standard input.
HOLDER = """
import fcntl, json, sys
file = open(sys.argv[1], "a+")
fcntl.lockf(file, fcntl.LOCK_EX)
file.write(json.dumps({"pid": 7, "host": "n1", "since": "12:00"}))
file.flush()
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path / NAME)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def test_a_second_run_is_refused_until_the_first_has_crashed(holder, tmp_path):
    with pytest.raises(FolderInUseError, match=f"{tmp_path} is in use by process 7 on n1 since 12"):
        lock_folder(str(tmp_path))
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    lock_folder(str(tmp_path))
    assert json.loads((tmp_path / NAME).read_text())["pid"] == os.getpid()
    unlock_folder(str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_an_agents_restart_waits_for_the_lock(holder, tmp_path, monkeypatch):
    monkeypatch.setattr(folder_lock.time, "sleep", lambda seconds: (holder.kill(), holder.wait()))
    lock_folder(str(tmp_path), restarted=True)
    unlock_folder(str(tmp_path))


def test_a_process_may_lock_its_folder_again(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "run")
    lock_folder(str(tmp_path / "run"))
    with folder_lock.unlocking_folders():
        lock_folder(str(tmp_path / "link"))
    assert (tmp_path / "run" / NAME).exists()  # locked before the context
    unlock_folder(str(tmp_path / "run"))


def test_a_data_worker_that_outlives_its_run_keeps_no_lock(tmp_path):
    reading, writing = os.pipe()
    run = os.fork()
    if not run:
        try:
            lock_folder(str(tmp_path))
            if not os.fork():  # the worker, until this process closes the pipe
                os.close(writing)
                os.read(reading, 1)
        finally:
            os._exit(0)
    os.waitpid(run, 0)
    assert (tmp_path / NAME).read_text()
    lock_folder(str(tmp_path))
    os.close(writing)
    unlock_folder(str(tmp_path))


@pytest.mark.parametrize("locks", ["none", "refused"])
def test_without_locks_a_warning_is_logged(locks, tmp_path, monkeypatch, caplog):
    class Refusing:
        LOCK_EX = LOCK_NB = 0

        def lockf(self, *args):
            raise OSError(38, "Function not implemented")

    monkeypatch.setattr(folder_lock, "fcntl", Refusing() if locks == "refused" else None)
    lock_folder(str(tmp_path))
    unlock_folder(str(tmp_path))
    assert f"{tmp_path} cannot be locked" in caplog.text


def test_a_trainer_is_refused_a_folder_in_use(holder, tiny_cfg, tmp_path):
    from resnest_d2.engine import Trainer

    cfg = tiny_cfg(OUTPUT_DIR=str(tmp_path))
    with pytest.raises(FolderInUseError, match="process 7 on n1"):
        Trainer(cfg).train()
    assert not (tmp_path / "model_final.pth").exists()
