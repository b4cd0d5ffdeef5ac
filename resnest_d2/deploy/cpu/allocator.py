"""What the C library does with freed memory, which decides how fast large maps are on a CPU.

glibc hands freed blocks of over 32 MiB back to the system; the next layer's map is then new memory,
which the system clears page by page at its first use. An image of 800x1216 has dozens of such
maps, and clearing them takes a third of a plain ResNeSt-50's time.

Source: mallopt(3), malloc_trim(3).
"""

import ctypes
import os
from functools import lru_cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -3, -4, -8  # of malloc.h
_LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let this process use large freed blocks again, instead of giving them back to the system.

    It is for the program to decide, because it changes all of the process: train_net.py, the
    command line and tools/benchmark.py call it where they compute on a CPU; nothing of the package
    does so when it is imported or constructed.

    Threads that start later share one arena, the only one whose blocks are kept; so call it early.
    The process stays as large as it once was, until :func:`return_freed_memory`. The first seven
    to ten blocks of a size are not used again yet: glibc's cache of small blocks first takes the
    ends it cuts off aligned ones, which keeps neighbours from merging until that cache is full.

    Returns:
        Whether that was possible: False without glibc (macOS, Windows, musl).
    """
    return _set({_MMAP_MAX: 0, _TRIM_THRESHOLD: _LARGEST, _ARENA_MAX: 1})


def return_freed_memory() -> bool:
    """Do as glibc does in a long-running process by default, and return what is free now.

    Threads go on sharing one arena, which glibc does not take back.

    Returns:
        As :func:`keep_freed_memory`.
    """
    # glibc's own thresholds rise up to these with the size of what is freed
    done = _set({_MMAP_MAX: 65536, _MMAP_THRESHOLD: 2**25, _TRIM_THRESHOLD: 2**26})
    if done and (glibc := _glibc()):
        glibc.malloc_trim(0)
    return done


def _set(options: dict[int, int]) -> bool:
    library = _glibc()
    return library is not None and all(library.mallopt(*option) for option in options.items())


@lru_cache(maxsize=1)
def _glibc() -> ctypes.CDLL | None:
    if os.name != "posix":  # Windows cannot open the process itself as a library
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None
