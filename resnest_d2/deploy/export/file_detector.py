"""An exported file in its own engine, called like the detector that it was made of."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances
from torch import nn

from resnest_d2.errors import MissingFileError, UserError

from .formats import format_of


class FileDetector(nn.Module):
    """Detections of a file, as detectron2's detectors return them.

    Attributes:
        resizes: whether the file resizes images; its inputs must then have their original size, see
            :meth:`config_of_images`.
        metadata: what the file says of itself, as strings.
        score_threshold: lowest score of a detection.
    """

    def __init__(self, path: str | os.PathLike, *, score_threshold: float | None = None):
        """
        Args:
            path: file of :func:`resnest_d2.deploy.export.export`.
            score_threshold: None for that of the file.

        Raises:
            MissingFileError: there is no such file.
            MissingPackageError: its engine is not installed.
            UserError: it is no file of this package.
        """
        super().__init__()
        file = Path(path)
        if not file.is_file():
            raise MissingFileError(f"There is no file {file}.")
        kind = format_of(file)
        self.metadata = kind.metadata(file)
        if "preprocess" not in self.metadata:
            raise UserError(f"{file} was not written by `resnest-d2 export`.")
        self.resizes = self.metadata["preprocess"] == "inside"
        own = float(self.metadata["score_threshold"])
        self.score_threshold = own if score_threshold is None else score_threshold
        self.backbone = SimpleNamespace(size_divisibility=1)  # images are not padded together
        self.input_format = self.metadata["input_format"]
        self._run: Any = kind.open(file)
        self.eval()

    def forward(self, inputs: list[dict]) -> list[dict[str, Instances]]:
        """Detects objects, one image after the other; see ``GeneralizedRCNN.forward``."""
        return [{"instances": self._detect(one)} for one in inputs]

    def config_of_images(self, cfg: CfgNode) -> CfgNode:
        """The config to read images by: without resizing if the file does it."""
        return without_resizing(cfg) if self.resizes else cfg

    def _detect(self, one: dict) -> Instances:
        image = one["image"]
        size = (image.shape[1], image.shape[2])
        found = self._run(file_input(image, resizes=self.resizes), self.score_threshold)
        boxes, scores, classes, *masks = (torch.from_numpy(values) for values in found)
        instances = Instances(size)
        instances.pred_boxes, instances.scores = Boxes(boxes), scores
        instances.pred_classes = classes
        if masks:
            instances.pred_masks = masks[0][:, None]
        return detector_postprocess(
            instances, one.get("height", size[0]), one.get("width", size[1])
        )


def file_input(image: torch.Tensor, *, resizes: bool) -> np.ndarray:
    """An image (3, H, W) as a file takes it: (H, W, 3), uint8, if it resizes, else float32."""
    pixels = image.permute(1, 2, 0).byte() if resizes else image.float()
    return np.ascontiguousarray(pixels.numpy())


def without_resizing(cfg: CfgNode) -> CfgNode:
    """A config whose images keep their size, for a file that resizes them."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.INPUT.MIN_SIZE_TEST = 0
    cfg.freeze()
    return cfg
