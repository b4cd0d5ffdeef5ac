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
        """Handles a signal that has to wait."""
        del frame
        if number not in self.came:
            self.came.append(number)

    def pass_on(self, number: int, frame: FrameType | None) -> None:
        """Handles a signal that need not wait.

        It is noted until its handler has returned: Python ignores what a handler raises while it
        forks or deletes an object, and the signal must not be lost. The same signal can come again
        meanwhile, as when several data workers end.
        """
        self.came.append(number)
        handler = self.before.get(number)
        if callable(handler):
            handler(number, frame)
        else:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        if number in self.came:  # else it was delivered from within its handler
            self.came.remove(number)

    def begin(self) -> None:
        """Replaces the handlers; those of C code and ignored signals stay."""
        for name in filter(lambda name: hasattr(signal, name), _NAMES):
            number = getattr(signal, name)
            handler = signal.getsignal(number)
            nothing = handler is signal.SIG_DFL and name == "SIGCHLD"
            if handler not in (None, signal.SIG_IGN) and not nothing:
                if handler != self.pass_on:
                    self.before[number] = handler
                signal.signal(number, self.note)
        self.active = True

    def pause(self) -> None:
        """Lets signals act, also those that came."""
        self.active = False
        for number in self.before:
            signal.signal(number, self.pass_on)
        self._deliver()

    def end(self) -> None:
        """Puts the handlers back, and lets them handle the signals that came."""
        self.active = False
        for number, handler in self.before.items():
            if signal.getsignal(number) == self.note:  # else somebody installed another
                signal.signal(number, handler)
        try:
            self._deliver()
        finally:
            self.before = {}

    def _deliver(self) -> None:
        came, self.came = sorted(set(self.came), key=[*self.before].index), []
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
        _WAITING.pause()
        yield
    except BaseException:
        _WAITING.came.clear()  # they have acted
        raise
    finally:
        _WAITING.begin()
