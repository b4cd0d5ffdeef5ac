"""The seam to the result files of detectron2's evaluators."""

import contextlib
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from resnest_d2.files import whole_file

from .replacing import replaced

_WRITERS = ("coco_evaluation", "panoptic_evaluation", "sem_seg_evaluation")


class _WholeFiles:
    """detectron2's PathManager, whose new files are written atomically."""

    def __init__(self, manager: Any):
        self._manager = manager

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manager, name)

    def open(self, path: str, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if mode in ("w", "wb"):
            return whole_file(path, mode)
        return self._manager.open(path, mode, *args, **kwargs)


@contextlib.contextmanager
def writing_whole_results() -> Iterator[None]:
    """Has detectron2's evaluators write their files whole; as they do where they cannot."""
    with contextlib.ExitStack() as stack:
        for name in _WRITERS:
            module = import_module(f"detectron2.evaluation.{name}")
            if hasattr(module, "PathManager"):
                whole = _WholeFiles(module.PathManager)
                stack.enter_context(replaced(module, PathManager=whole))
        yield
