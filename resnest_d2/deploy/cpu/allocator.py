"""Settings of the C library's allocator, which limits the speed of large feature maps on a CPU.

glibc returns freed blocks of over 32 MiB to the system; the next layer's map is then new memory,
which the system clears page by page on first use. An image of 800x1216 has dozens of such maps, and
clearing them takes a third of a plain ResNeSt-50's time.

Source: mallopt(3), malloc_trim(3).
"""

import ctypes
import os
from functools import lru_cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -3, -4, -8  # of malloc.h
_LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Reuses large freed blocks in this process instead of returning them to the system.

    Only programs should call it, because it affects the whole process: train_net.py, the command
    line and tools/benchmark.py do so before computing on a CPU; importing this package or
    constructing its classes never does.

    Threads that start later share one arena, the only one whose blocks are kept; so call it early.
    The process keeps its peak size until :func:`return_freed_memory`. The first seven to ten blocks
    of a size are not reused yet: glibc's cache of small blocks first takes the ends that it cuts
    off aligned blocks, and they keep neighbours from merging until the cache is full.

    Returns:
        Whether the settings could be changed: False without glibc (macOS, Windows, musl).
    """
    return _set({_MMAP_MAX: 0, _TRIM_THRESHOLD: _LARGEST, _ARENA_MAX: 1})


def return_freed_memory() -> bool:
    """Restores glibc's behaviour in long-running processes, and returns memory that is free now.

    Threads still share one arena, since glibc cannot undo this.

    Returns:
        See :func:`keep_freed_memory`.
    """
    # by default glibc raises its thresholds up to these values as larger blocks are freed
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
