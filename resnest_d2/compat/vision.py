"""The seams to torchvision and Pillow; importing this imports neither."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from resnest_d2.errors import UserError

from .replacing import replaced

if TYPE_CHECKING:
    from torch import Tensor


@functools.cache
def can_replace_nms() -> bool:
    """Whether detectron2's non-maximum suppression calls torchvision's by its name."""
    import torch
    from detectron2.layers import batched_nms
    from torchvision.ops import boxes as box_ops

    called = []

    def record(
        boxes: torch.Tensor, scores: torch.Tensor, classes: torch.Tensor, iou_threshold: float
    ) -> torch.Tensor:
        called.append(iou_threshold)
        return classes

    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0]], device="cpu")
    with replaced(box_ops, batched_nms=record):
        batched_nms(boxes, boxes[:, 0], boxes[:, 0].long(), 0.5)
    return called == [0.5]


@contextmanager
def nms_by(
    function: "Callable[[Tensor, Tensor, Tensor, float], Tensor]",
) -> Iterator[None]:
    """Have detectron2's detectors suppress by another function than torchvision's batched_nms.

    Args:
        function: takes boxes, scores, classes and the threshold, as that does.

    Raises:
        UserError: this detectron2 does not call torchvision's.
    """
    if not can_replace_nms():
        raise UserError(
            "A detector of this detectron2 cannot be exported: its non-maximum suppression is not "
            "the one that resnest_d2 knows. Install a detectron2 that `resnest-d2 doctor` accepts."
        )
    from torchvision.ops import boxes as box_ops

    with replaced(box_ops, batched_nms=function):
        yield


def is_truncated_image(error: BaseException) -> bool:
    """Whether Pillow stopped at the end of a file, before that of its image."""
    return "truncated" in str(error)
