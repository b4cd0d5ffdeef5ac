"""How a training ends that does not reach its end: its signals, its errors in plain words."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

from resnest_d2.compat.pytorch import is_dead_worker, is_terminated_worker, mistake_in_worker
from resnest_d2.errors import UserError

_IGNORED = {  # while a stopped run is saved; SIGCHLD by default does nothing
    "SIGCHLD": signal.SIG_DFL,
    "SIGTERM": signal.SIG_IGN,
    "SIGINT": signal.SIG_IGN,
}


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Put signals off while a stopped run is saved, and back afterwards.

    A cluster's SIGTERM reaches the data workers too; their end, or a second signal, would cut the
    saving short.
    """
    previous: dict[str, Any] = {}
    if threading.current_thread() is threading.main_thread():  # Python's rule for handlers
        for name, handler in _IGNORED.items():
            if hasattr(signal, name):
                previous[name] = signal.signal(getattr(signal, name), handler)
    try:
        yield
    finally:
        for name, handler in previous.items():
            signal.signal(getattr(signal, name), handler or signal.SIG_DFL)


def in_plain_words(error: BaseException) -> BaseException:
    """What an error in a data worker means to the user.

    Returns:
        A KeyboardInterrupt where a cluster's SIGTERM stopped the worker, and stops the run; the
        worker's own UserError without its traceback; a UserError where it was ended by the system;
        an error of another kind itself.
    """
    if is_dead_worker(error):
        if is_terminated_worker(error):
            return KeyboardInterrupt()
        try:
            time.sleep(1)  # the same signal may be on its way to this process
        except KeyboardInterrupt as stopped:
            return stopped
        return UserError(
            f"{str(error).strip()}: the system may be out of memory, or of shared memory "
            "(/dev/shm). Set DATALOADER.NUM_WORKERS lower, or 0."
        )
    message = mistake_in_worker(error)
    return error if message is None else UserError(message)
