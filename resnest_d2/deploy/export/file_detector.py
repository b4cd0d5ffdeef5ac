"""An exported file in its own engine, called like the detector that it was made of."""

import contextlib
import os
from collections.abc import Iterator, Sequence
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
from resnest_d2.files import UnreadableError

from .formats import Run, format_of


class FileDetector(nn.Module):
    """Detections of a file, as detectron2's detectors return them.

    Attributes:
        resizes: whether the file resizes images; its inputs must then have their original size, see
            :meth:`config_of_images`.
        metadata: what the file says of itself, as strings.
        batch: whether the file takes several images of one size.
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
            UnreadableError: it is damaged, or its weights are missing.
            UserError: it is no file of this package.
        """
        super().__init__()
        file = Path(path)
        if not file.is_file():
            raise MissingFileError(f"There is no file {file}.")
        kind = format_of(file)
        with _reading(file):
            self.metadata = kind.metadata(file)
        if "preprocess" not in self.metadata:
            raise UserError(f"{file} was not written by `resnest-d2 export`.")
        self.resizes = self.metadata["preprocess"] == "inside"
        self.batch = self.metadata.get("batch") == "true"
        own = float(self.metadata["score_threshold"])
        self.score_threshold = own if score_threshold is None else score_threshold
        self.backbone = SimpleNamespace(size_divisibility=1)  # images are not padded together
        self.input_format = self.metadata["input_format"]
        with _reading(file):
            self._run: Any = kind.open(file)
        self.eval()

    def forward(self, inputs: list[dict]) -> list[dict[str, Instances]]:
        """Detects objects; see ``GeneralizedRCNN.forward``.

        Images of one size go together into a file that takes several; others one after the other.
        """
        pixels = [file_input(one["image"], resizes=self.resizes) for one in inputs]
        found = run_on(self._run, pixels, self.score_threshold, batch=self.batch)
        return [
            {"instances": self._instances(one, arrays)}
            for one, arrays in zip(inputs, found, strict=True)
        ]

    def config_of_images(self, cfg: CfgNode) -> CfgNode:
        """The config to read images by: without resizing if the file does it."""
        return without_resizing(cfg) if self.resizes else cfg

    def _instances(self, one: dict, found: list[np.ndarray]) -> Instances:
        size = (one["image"].shape[1], one["image"].shape[2])
        boxes, scores, classes, *masks = (torch.from_numpy(values) for values in found)
        instances = Instances(size)
        instances.pred_boxes, instances.scores = Boxes(boxes), scores
        instances.pred_classes = classes
        if masks:
            instances.pred_masks = masks[0][:, None]
        return detector_postprocess(
            instances, one.get("height", size[0]), one.get("width", size[1])
        )


@contextlib.contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Around an engine that reads a file; each has errors of its own for damaged ones."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:
        weights = f" or {file.with_suffix('.bin')} is missing or" * (file.suffix == ".xml")
        reason = str(error).strip().rpartition("\n")[2][:200]  # OpenVINO's begins with its sources
        raise UnreadableError(
            f"{file}{weights or ' is'} damaged ({type(error).__name__}: {reason}); export it again."
        ) from error


def run_on(
    run: Run, images: Sequence[np.ndarray], threshold: float, *, batch: bool
) -> list[list[np.ndarray]]:
    """Runs a file on images: together if it takes several and they have one size.

    Args:
        run: runs the file in its engine.
        images: inputs of the file, one by one.
        threshold: score threshold.
        batch: whether the file takes several images.

    Returns:
        For each image, boxes, scores, classes and, if there are any, masks.
    """
    if not batch:
        return [run(image, threshold) for image in images]
    together = len({image.shape for image in images}) == 1
    found = []
    for group in [images] if together else [[image] for image in images]:
        *arrays, numbers = run(np.stack(group), threshold)
        found += [[values[numbers == i] for values in arrays] for i in range(len(group))]
    return found


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
