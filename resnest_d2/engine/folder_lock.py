"""A lock on the folder of a run, so that a second run does not write into it.

The system releases it when the process ends, however it ends; nothing is left to delete. On a
shared file system it reaches as far as that system's locks. Where there are none, a warning is
logged and two runs are not told apart.
"""

import contextlib
import functools
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from typing import IO, Any, TypeVar

from detectron2.utils import comm

from resnest_d2.errors import UserError
from resnest_d2.files import make_folder

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

T = TypeVar("T")
NAME = ".run.lock"
_logger = logging.getLogger(__name__)
_WAIT_S = 120  # for the lock of a process that an agent has ended before it restarts a run
_held: dict[str, IO] = {}  # folder -> file, whose lock is this process's


class FolderInUseError(UserError):
    """Another process runs in the folder."""


def lock_folder(folder: str, *, restarted: bool = False) -> None:
    """Makes a folder and locks it until this process ends or unlocks it.

    A second call by the same process does nothing.

    Args:
        folder: of the run.
        restarted: whether an agent has restarted the run: the lock of the process before may take
            a while to be released where that was on another machine.

    Raises:
        FolderInUseError: another process has locked it; the message names it.
        WriteError: the folder cannot be written to.
    """
    key = os.path.realpath(folder)
    if key in _held:
        return
    make_folder(folder)
    deadline = time.monotonic() + (_WAIT_S if restarted else 0)
    while (file := _locked_file(os.path.join(folder, NAME))) is None:
        if time.monotonic() >= deadline:
            raise FolderInUseError(_in_use(folder))
        time.sleep(0.5)
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%F %T")}
    file.truncate()
    file.write(json.dumps(holder))
    file.flush()
    _held[key] = file


def unlock_folder(folder: str) -> None:
    """Releases what :func:`lock_folder` has locked; without a lock it does nothing."""
    file = _held.pop(os.path.realpath(folder), None)
    if file is not None:
        if os.path.exists(file.name):
            os.remove(file.name)  # while it is locked: nobody else holds it
        file.close()


@contextlib.contextmanager
def unlocking_folders() -> Iterator[None]:
    """Releases at its end the folders that were locked within the context."""
    before = set(_held)
    try:
        yield
    finally:
        for folder in set(_held) - before:
            unlock_folder(folder)


def with_locked_folder(train: Callable[[Any], T]) -> Callable[[Any], T]:
    """A trainer's method during which the main process has the folder of its config locked."""

    @functools.wraps(train)
    def run(trainer: Any) -> T:
        with unlocking_folders():
            if comm.is_main_process():
                lock_folder(trainer.cfg.OUTPUT_DIR)
            return train(trainer)

    return run


def _locked_file(path: str) -> IO | None:
    """The file, open and locked; None while another process has locked it.

    A record lock belongs to the process: data workers do not inherit it.
    """
    while True:
        file = open(path, "a+", encoding="utf-8")
        file.seek(0)
        try:
            if fcntl is not None:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            else:
                _logger.warning(_no_lock(path, "this system has no such locks"))
        except (BlockingIOError, PermissionError):
            file.close()
            return None
        except OSError as error:  # a shared file system without locks
            _logger.warning(_no_lock(path, error.strerror))
        # Another process may have removed the file between the opening and the lock.
        if os.path.exists(path) and os.path.samestat(os.stat(path), os.fstat(file.fileno())):
            return file
        file.close()


def _no_lock(path: str, reason: str | None) -> str:
    folder = os.path.dirname(path)
    return f"{folder} cannot be locked ({reason}): take care that no other run writes to it."


def _in_use(folder: str) -> str:
    """The sentence about a folder that another process has locked."""
    try:
        with open(os.path.join(folder, NAME), encoding="utf-8") as file:
            holder = json.load(file)
        who = f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (ValueError, KeyError, TypeError, FileNotFoundError) as error:  # written just now
        _logger.debug(f"{NAME} cannot be read: {error}")
        who = "another process"
    return f"{folder} is in use by {who}. Wait for that run, stop it, or choose another folder."
