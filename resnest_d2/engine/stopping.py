"""Handles interrupted or failed training: signals, and readable errors of data workers."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

from resnest_d2.compat.pytorch import is_dead_worker, is_terminated_worker, mistake_in_worker
from resnest_d2.errors import UserError

_IGNORED = {  # while the checkpoint of a stopped run is saved; the default SIGCHLD does nothing
    "SIGCHLD": signal.SIG_DFL,
    "SIGTERM": signal.SIG_IGN,
    "SIGINT": signal.SIG_IGN,
}


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Ignores signals within the context, while the checkpoint of a stopped run is saved.

    A cluster sends SIGTERM to the data workers too; their exit, or a second signal, would interrupt
    the saving.
    """
    previous: dict[str, Any] = {}
    if threading.current_thread() is threading.main_thread():  # Python allows handlers only there
        for name, handler in _IGNORED.items():
            if hasattr(signal, name):
                previous[name] = signal.signal(getattr(signal, name), handler)
    try:
        yield
    finally:
        for name, handler in previous.items():
            signal.signal(getattr(signal, name), handler or signal.SIG_DFL)


def in_plain_words(error: BaseException) -> BaseException:
    """Translates an error of a data worker into one for the user.

    Returns:
        A KeyboardInterrupt if a cluster's SIGTERM stopped the worker; the worker's UserError
        without its traceback; a UserError if the system killed the worker; any other error
        unchanged.
    """
    if is_dead_worker(error):
        if is_terminated_worker(error):
            return KeyboardInterrupt()
        try:
            time.sleep(1)  # this process may still receive the same signal
        except KeyboardInterrupt as stopped:
            return stopped
        return UserError(
            f"A data worker has ended ({str(error).strip()}): the system may be out of memory, or "
            "of shared memory (/dev/shm). Lower DATALOADER.NUM_WORKERS, or set it to 0."
        )
    message = mistake_in_worker(error)
    return error if message is None else UserError(message)
