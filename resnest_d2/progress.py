"""Progress of long work, on standard error: a bar on a terminal, else a line now and then.

Both are tqdm's. A program shows them unless :func:`show` says otherwise.
"""

import sys
import time
import weakref
from collections.abc import Iterator
from typing import Any

from tqdm import tqdm

_LINE = "{desc} {n_fmt}/{total_fmt}{postfix}, {remaining} left"
_SILENCE_S = 600.0  # a line is printed after it in any case

_shown = {"bars": True, "lines": True}
_open: "weakref.WeakSet[tqdm]" = weakref.WeakSet()


def show(*, bars: bool = True, lines: bool = True) -> None:
    """Sets how this process shows progress.

    Args:
        bars: whether terminals show bars.
        lines: whether pipes and files get lines.
    """
    _shown.update(bars=bars, lines=lines)


def on_terminal() -> bool:
    """Whether standard error is a terminal, which shows bars."""
    return sys.stderr.isatty()


class _Output:
    """Standard error for tqdm's states: each is a line, and those that clear one are left out."""

    def write(self, text: str) -> None:
        if text := text.strip("\r\n "):
            sys.stderr.write(f"{text}\n")

    def flush(self) -> None:
        sys.stderr.flush()


class _Bar(tqdm):
    """tqdm's bar with room on its right for the ^C that a terminal echoes."""

    @property
    def format_dict(self) -> dict[str, Any]:
        facts = dict(super().format_dict)
        return facts | {"ncols": facts["ncols"] and max(facts["ncols"] - 3, 1)}


class _Lines(tqdm):
    """tqdm whose state is a line, printed at fractions of the work and after a long silence."""

    def __init__(self, *, number: int, apart: float, **kwargs: Any):
        self._number, self._apart = number, apart
        self._printed, self._since = kwargs["initial"], time.monotonic()
        # A delay for no line at 0; its position for no cursor movements.
        super().__init__(
            **kwargs, file=_Output(), bar_format=_LINE, leave=False, position=0, delay=1e-9
        )

    def update(self, n: float | None = 1) -> bool | None:
        self.n += n or 0
        self.last_print_n = self.n
        silence = time.monotonic() - self._since
        done = (self.n - self._printed) * self._number >= (self.total or 0) > 0
        if not (done and silence >= self._apart) and silence < _SILENCE_S:
            return False
        self._printed, self._since = self.n, time.monotonic()
        self.refresh()
        return True


def progress(
    total: int | None,
    label: str,
    *,
    shown: bool = True,
    initial: int = 0,
    number: int = 10,
    apart: float = 30.0,
    **kwargs: Any,
) -> tqdm:
    """A tqdm of work that is about to begin; ``update`` and ``close`` it, or use it in ``with``.

    Args:
        total: size of the work, if it is known.
        label: what is counted; printable.
        shown: show it at all.
        initial: size of what is done already.
        number: most lines to print where there is no terminal; in more than ten minutes each, more.
        apart: seconds between two of these lines.
        kwargs: further arguments of tqdm.
    """
    kwargs |= {"total": total, "desc": label, "initial": initial}
    terminal = on_terminal()
    if not (shown and _shown["bars" if terminal else "lines"]):
        return tqdm(disable=True, **kwargs)
    if terminal:
        bar: tqdm = _Bar(dynamic_ncols=True, file=sys.stderr, **kwargs)
    else:
        for name in ("leave", "smoothing"):
            kwargs.pop(name, None)
        bar = _Lines(number=number, apart=apart, **kwargs)
    _open.add(bar)
    return bar


def counted(items: Any, label: str, *, total: int | None = None, shown: bool = True) -> Iterator:
    """The items, one after the other, counted by :func:`progress` until they have ended.

    Args:
        items: what to iterate over.
        label: what the items are.
        total: their number, if they have no length.
        shown: show it at all.
    """
    number = len(items) if total is None else total
    with progress(number, label, shown=shown, leave=False) as bar:
        for item in items:
            yield item
            bar.update()


def close_all() -> None:
    """Closes what an interruption has left open, so that the next line is a line of its own."""
    for bar in sorted(_open, key=lambda bar: abs(bar.pos), reverse=True):
        bar.close()
