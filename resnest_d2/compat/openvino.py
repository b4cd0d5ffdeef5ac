"""OpenVINO, of whose Core a process may have only one."""

import threading
from functools import cache
from typing import Any

from resnest_d2.errors import MissingPackageError

_LOCK = threading.Lock()  # threads that ask for the first time at once get one


def import_openvino() -> Any:
    """Imports openvino.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        import openvino
    except ImportError as error:
        raise MissingPackageError(
            "OpenVINO is not installed: pip install 'resnest-d2[openvino]'."
        ) from error
    return openvino


def openvino_core() -> Any:
    """Returns the process's ``openvino.Core``, which reads files into memory: they can be replaced.

    It is never deleted. The CPU plugin of each Core sets the alternate signal stack of its thread,
    and at its end the one from before, which may be freed by then. After two Cores, the next signal
    that Python handles (Ctrl-C, or the end of a data worker) would be a segmentation fault.
    """
    with _LOCK:
        return _core()


@cache
def _core() -> Any:
    core = import_openvino().Core()
    core.set_property({"ENABLE_MMAP": False})
    return core
