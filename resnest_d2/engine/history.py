"""The metrics of each iteration in metrics.json, of which a resumed run drops what it repeats."""

import json
import os


def history_size(path: str) -> int:
    """Size of metrics.json in bytes; 0 if it does not exist."""
    return os.path.getsize(path) if os.path.isfile(path) else 0


def cut_history(path: str, size: int | None, *, before: int) -> int:
    """Shortens metrics.json in one step; its writer has it open, at its end.

    Args:
        path: path of the file; it may not exist.
        size: bytes to keep; None keeps what is from before an iteration.
        before: that iteration.

    Returns:
        Last iteration of the lines that are kept; -1 if there are none.
    """
    last, end = -1, 0
    if not os.path.isfile(path):
        return last
    with open(path, "rb") as file:
        for line in file:
            iteration = _iteration(line)
            late = iteration >= before if size is None else end + len(line) > size
            if late or not line.endswith(b"\n"):
                break
            last, end = max(last, iteration), end + len(line)
    if end < os.path.getsize(path):
        os.truncate(path, end)
    return last


def _iteration(line: bytes) -> int:
    """Iteration of a line; -1 if it has none."""
    try:
        values = json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError):
        return -1
    return values["iteration"] if isinstance(values, dict) and "iteration" in values else -1
