"""The seam to how detectron2's detectors choose proposals and detections."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .replacing import replaced


@contextmanager
def selecting_by(proposals: Callable, detections: Callable) -> Iterator[None]:
    """Have detectron2's detectors choose by other functions, which see all images at once.

    Args:
        proposals: takes the place of ``find_top_rpn_proposals``, with its arguments.
        detections: takes the place of ``fast_rcnn_inference``, with its arguments.
    """
    from detectron2.modeling.proposal_generator import rpn
    from detectron2.modeling.roi_heads import cascade_rcnn, fast_rcnn

    with (
        replaced(rpn, find_top_rpn_proposals=proposals),
        replaced(fast_rcnn, fast_rcnn_inference=detections),
        replaced(cascade_rcnn, fast_rcnn_inference=detections),
    ):
        yield
