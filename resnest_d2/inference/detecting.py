"""Images through a detector: read, sliced, resized, in batches, and selected."""

from collections import defaultdict
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.data.catalog import Metadata
from detectron2.data.detection_utils import build_augmentation, convert_PIL_to_numpy
from PIL import Image
from torch import nn

from resnest_d2.compat.pytorch import is_out_of_memory
from resnest_d2.data.resize import with_resizer

from .images import InputImage
from .result import Prediction
from .selection import Selection
from .slicing import Slice, Slicing, merge, slices
from .sources import GREY
from .stream import Failure, costs_one_image, failure_of


class Detecting:
    """The part of a Predictor that a thread runs on some images.

    Attributes:
        cfg: config of the detector.
        model: the detector.
        metadata: names and ids of the classes.
        score_threshold: lowest score of a detection.
        slicing: how images are cut into slices; None if they are not.
        selection: which detections are kept.
        batch_size: number of images or slices per batch.
        augmentations: the resizing.
    """

    model: nn.Module

    def __init__(
        self,
        cfg: CfgNode,
        metadata: Metadata,
        *,
        slicing: Slicing | None,
        selection: Selection,
        batch_size: int,
    ):
        """See the class."""
        self.cfg, self.metadata, self.batch_size = cfg, metadata, batch_size
        self.slicing, self.selection = slicing, selection
        retina = cfg.MODEL.META_ARCHITECTURE == "RetinaNet"
        keys = cfg.MODEL.RETINANET if retina else cfg.MODEL.ROI_HEADS
        self.score_threshold: float = keys.SCORE_THRESH_TEST
        self.augmentations = T.AugmentationList(
            with_resizer(build_augmentation(cfg, is_train=False), cfg.INPUT.RESIZE)
        )

    def _work(self, images: list[InputImage]) -> list[Prediction | Failure]:
        """Reads and predicts."""
        results: dict[int, Prediction | Failure] = {}
        prepared: dict[int, _Prepared] = {}
        for i, image in enumerate(images):
            try:
                prepared[i] = self._prepare(image)
            except Exception as error:
                if not costs_one_image(error):
                    raise
                results[i] = failure_of(image, error)
        outputs = iter(self._outputs([x for one in prepared.values() for x in one.inputs]))
        for i, one in prepared.items():
            found = list(islice(outputs, len(one.inputs)))
            if errors := [x for x in found if isinstance(x, Exception)]:
                results[i] = failure_of(images[i], errors[0])
            else:
                results[i] = self._prediction(images[i], one, found)
        return [results[i] for i in range(len(images))]

    def _outputs(self, inputs: list[dict]) -> list[Any]:
        """Outputs of the detector, or errors, in batches of the same padding.

        Each image therefore has the results that it would have alone.
        """
        outputs: dict[int, Any] = {}
        batches = defaultdict(list)
        for i, one in enumerate(inputs):
            batches[self._padded(one["image"])].append(i)
        for alike in batches.values():
            for start in range(0, len(alike), self.batch_size):
                indices = alike[start : start + self.batch_size]
                found = self._detect([inputs[i] for i in indices])
                outputs.update(zip(indices, found, strict=True))
        return [outputs[i] for i in range(len(inputs))]

    def _detect(self, inputs: list[dict]) -> list[dict | Exception]:
        """Outputs of the detector; the error of an image that there is not enough memory for."""
        try:
            with torch.no_grad():
                return self.model(inputs)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if len(inputs) == 1:
                return [error.with_traceback(None)]  # which holds the tensors
        return [found for one in inputs for found in self._detect([one])]

    def _prepare(self, image: InputImage) -> "_Prepared":
        pixels = _read(image, self.cfg.INPUT.FORMAT)
        size = pixels.shape[0], pixels.shape[1]
        parts = slices(*size, slicing=self.slicing) if self.slicing else [Slice(0, 0, *size)]
        return _Prepared(size, parts, [self._input(pixels, part) for part in parts])

    def _input(self, pixels: np.ndarray, part: Slice) -> dict:
        pixels = pixels[part.y0 : part.y1, part.x0 : part.x1]
        resized = T.AugInput(pixels)
        self.augmentations(resized)
        tensor = torch.from_numpy(np.ascontiguousarray(resized.image.transpose(2, 0, 1)))
        return {"image": tensor, "height": pixels.shape[0], "width": pixels.shape[1]}

    def _padded(self, image: torch.Tensor) -> tuple[int, ...]:
        """Height and width of an image after the padding that it would have alone."""
        backbone: Any = self.model.backbone
        step = max(1, backbone.size_divisibility)
        return tuple(-(-side // step) * step for side in image.shape[1:])

    def _prediction(
        self, image: InputImage, prepared: "_Prepared", outputs: list[dict]
    ) -> Prediction:
        instances = [output["instances"].to("cpu") for output in outputs]
        found = instances[0]
        if len(instances) > 1:
            found = merge(instances, prepared.parts, prepared.size)
        segments, info = outputs[0].get("panoptic_seg", (None, None))
        return Prediction(
            image=image,
            instances=self.selection(found),
            metadata=self.metadata,
            threshold=self.score_threshold,
            panoptic=None if segments is None else (segments.cpu(), info),
        )


class _Prepared(NamedTuple):
    """Size (height, width) of an image, its slices, and the detector's input of each."""

    size: tuple[int, int]
    parts: list[Slice]
    inputs: list[dict]


def _read(image: InputImage, order: str) -> np.ndarray:
    """Pixels in the form of INPUT.FORMAT: (H, W, 3), or (H, W, 1) as in training for "L"."""
    if order != GREY:
        return image.read(order)
    return convert_PIL_to_numpy(Image.fromarray(np.ascontiguousarray(image.read("RGB"))), GREY)
