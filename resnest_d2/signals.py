"""Signals that stop a program wait until a piece of work, such as a checkpoint, is complete."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

# In the order in which they act. SIGCHLD tells of a dead data worker: torch's handler raises an
# error, which can come anywhere.
_NAMES = ("SIGINT", "SIGTERM", "SIGCHLD")


class _Waiting:
    """Handlers that were replaced, and the signals that came since."""

    def __init__(self) -> None:
        self.before: dict[int, Any] = {}
        self.came: list[int] = []
        self.active = False

    def note(self, number: int, frame: FrameType | None) -> None:
        """Handles a signal: remembers it."""
        del frame
        if number not in self.came:
            self.came.append(number)

    def begin(self) -> None:
        """Replaces the handlers; those of C code and ignored signals stay."""
        for name in filter(lambda name: hasattr(signal, name), _NAMES):
            number = getattr(signal, name)
            handler = signal.getsignal(number)
            nothing = handler is signal.SIG_DFL and name == "SIGCHLD"
            if handler not in (None, signal.SIG_IGN) and not nothing:
                self.before[number] = handler
                signal.signal(number, self.note)
        self.active = True

    def end(self) -> None:
        """Puts the handlers back, and lets them handle the signals that came."""
        self.active = False
        before, self.before = self.before, {}
        for number, handler in before.items():
            if signal.getsignal(number) == self.note:  # else somebody installed another
                signal.signal(number, handler)
        came, self.came = sorted(self.came, key=[*before].index), []
        for number in came:
            signal.raise_signal(number)


_WAITING = _Waiting()


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()  # Python handles signals there


@contextlib.contextmanager
def signals_wait() -> Iterator[None]:
    """Signals that come within the context act at its end; contexts may be nested.

    In other threads than the main one it does nothing: these are not interrupted by signals.
    """
    if _WAITING.active or not _in_main_thread():
        yield
        return
    _WAITING.begin()
    try:
        yield
    finally:
        _WAITING.end()


@contextlib.contextmanager
def signals_act() -> Iterator[None]:
    """Lets signals act at once, also those that came before, within :func:`signals_wait`."""
    if not _WAITING.active or not _in_main_thread():
        yield
        return
    try:
        _WAITING.end()
        yield
    finally:
        _WAITING.begin()
