"""A detector as a traced module, from images and a score threshold to tensors.

Shapes: N images in a batch, H, W of the given image, R detections, M mask size.
"""

import copy

import torch
import torchvision
from detectron2.export import TracingAdapter
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes
from torch import nn

from resnest_d2.compat.vision import nms_by
from resnest_d2.deploy.optimize import optimize_for_inference
from resnest_d2.errors import UserError

from .batch import BatchInference, set_threshold
from .resizing import ShortestEdge

_TRACED_SIZE = 64


def detect(model: GeneralizedRCNN, image: torch.Tensor, threshold: torch.Tensor) -> tuple:
    """Returns the detections of one image as tensors.

    Args:
        model: model in eval mode; its score threshold is replaced by the given one.
        image: (3, H, W), float32, 0 to 255, in the model's channel order.
        threshold: lower limit of the scores, float32 scalar.

    Returns:
        Boxes (R, 4) in pixels of ``image``, scores (R,), classes (R,), int64, and masks
        (R, M, M), probabilities inside the boxes, if the model has a mask head.
    """
    set_threshold(model, threshold)
    found = model.inference([{"image": image}], do_postprocess=False)[0]
    outputs = (found.pred_boxes.tensor, found.scores, found.pred_classes)
    return (*outputs, found.pred_masks[:, 0]) if found.has("pred_masks") else outputs


def _detect(model: GeneralizedRCNN, image: torch.Tensor, threshold: torch.Tensor) -> tuple:
    """Traceable version of :func:`detect`."""
    # torchvision has a branch for no boxes, in which OpenVINO returns one box.
    with nms_by(_batched_nms):
        return detect(model, image, threshold)


def _batched_nms(
    boxes: torch.Tensor, scores: torch.Tensor, classes: torch.Tensor, iou_threshold: float
) -> torch.Tensor:
    """torchvision's batched_nms for boxes inside an image, without branches."""
    far = torch.cat((boxes.flatten(), boxes.new_zeros(1))).max() + 1
    moved = boxes + (classes.to(boxes) * far)[:, None]
    return torchvision.ops.nms(moved, scores, iou_threshold)


class WholeDetector(nn.Module):
    """Wraps a detector with the resize, for boxes in pixels of the given image."""

    def __init__(self, detector: nn.Module, resize: ShortestEdge | None):
        """
        Args:
            detector: called as :func:`detect`, or as :class:`BatchInference`, without the model.
            resize: resize in the module; None if images are already resized.
        """
        super().__init__()
        self.detector, self.resize = detector, resize

    def forward(self, image: torch.Tensor, threshold: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """See :func:`detect`; with a resize, ``image`` is (H, W, 3), uint8; a batch has N first."""
        if self.resize is None:
            image = resized = image
        else:
            image = image.permute((2, 0, 1) if image.ndim == 3 else (0, 3, 1, 2)).float()
            resized = self.resize(image)
        boxes, *rest = self.detector(resized, threshold)
        height, width = image.shape[-2], image.shape[-1]
        across, down = width / resized.shape[-1], height / resized.shape[-2]
        low, high = boxes[:, :2], boxes[:, 2:]
        x = torch.stack((low[:, 0], high[:, 0])) * across
        y = torch.stack((low[:, 1], high[:, 1])) * down
        boxes = Boxes(torch.stack((x[0], y[0], x[1], y[1]), 1))
        boxes.clip((height, width))
        kept = boxes.nonempty()
        return (boxes.tensor[kept], *(values[kept] for values in rest))


class EagerDetector(nn.Module):
    """:func:`detect` as a module, for :class:`WholeDetector`."""

    def __init__(self, model: GeneralizedRCNN):
        """See :func:`detect`."""
        super().__init__()
        self.model = model

    def forward(self, image: torch.Tensor, threshold: torch.Tensor) -> tuple:
        """See :func:`detect`."""
        return detect(self.model, image, threshold)


def example(resize: ShortestEdge | None, height: int, width: int) -> torch.Tensor:
    """Returns an example input of the traced module, an image of smooth random colours."""
    generator = torch.Generator().manual_seed(height * width)
    small = torch.rand(1, 3, height // 8 + 1, width // 8 + 1, generator=generator) * 255
    x = nn.functional.interpolate(small, (height, width), mode="bilinear")[0].round()
    return x if resize is None else x.permute(1, 2, 0).byte().contiguous()


@torch.no_grad()
def traceable(
    model: GeneralizedRCNN, resize: ShortestEdge | None, *, batch: bool = False
) -> tuple[WholeDetector, tuple[torch.Tensor, torch.Tensor]]:
    """Builds a :class:`WholeDetector` that can be traced for any image size and threshold.

    Args:
        model: model on the CPU, in eval mode; it is not changed.
        resize: see :class:`WholeDetector`.
        batch: whether it takes several images of one size, see :class:`BatchInference`.

    Returns:
        The detector, and inputs to trace it with.

    Raises:
        UserError: the model finds nothing even at a threshold of 0.
    """
    fast = optimize_for_inference(model)
    for name, module in model.roi_heads.named_children():
        (pooler,) = getattr(module, "replaced", (module,))
        if isinstance(pooler, ROIPooler):  # the optimised one has branches in Python
            setattr(fast.roi_heads, name, copy.deepcopy(pooler))
    inputs = (example(None, _TRACED_SIZE, _TRACED_SIZE), torch.tensor(0.0))
    adapter = TracingAdapter(fast, inputs, BatchInference(fast) if batch else _detect)
    whole = WholeDetector(adapter, resize).eval()
    image = example(resize, _TRACED_SIZE, _TRACED_SIZE)
    if batch:
        image = torch.stack((image, image.flip(1)))
    for threshold in (0.5, 0.05, 0.005, 0.0005, 0.0):
        if len(whole(image, torch.tensor(threshold))[0]):
            return whole, (image, torch.tensor(threshold))
    # a trace without detections would never return any
    raise UserError("The detector finds nothing, even at a score of 0: are its weights NaN?")
