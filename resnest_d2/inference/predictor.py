"""Predictor for images in any form."""

import os
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.data.detection_utils import build_augmentation, convert_PIL_to_numpy
from PIL import Image

from resnest_d2.compat.pytorch import is_out_of_memory
from resnest_d2.data.resize import with_resizer
from resnest_d2.deploy import optimize_for_inference
from resnest_d2.errors import UserError

from .detector import build_metadata, build_trained, check_only_one, prediction_config
from .result import Prediction
from .sources import GREY, InputImage, Source, open_source
from .stream import Failure, Predictions, Stream, costs_one_image, failure_of

CHUNK = 4  # batches per chunk, within which images of similar size are grouped


class Predictor:
    """Detects objects in images, with the preprocessing of the evaluation.

    ``Predictor("mask_rcnn_s50")("street.jpg").draw().show()``
    """

    def __init__(
        self,
        model: str | os.PathLike | CfgNode,
        *,
        weights: str | os.PathLike | None = None,
        device: str = "auto",
        backend: str = "eager",
        score_threshold: float | None = None,
        classes: Sequence[str] = (),
        batch_size: int | None = None,
        workers: int | None = None,
        opts: Sequence = (),
    ):
        """
        Args:
            model: id or alias of a published detector, with its published weights; the folder of a
                run or a checkpoint in it; name or path of a config; or a config.
            weights: path of a checkpoint; by default the published one, a run's best or else last,
                or the config's.
            device: "auto" uses a GPU if available. Programs that use a CPU should first call
                :func:`resnest_d2.deploy.keep_freed_memory`.
            backend: backend of ``optimize_for_inference``, which does not change the results.
                "plain" does not optimize the detector.
            score_threshold: lowest score to keep; by default the config's, 0.05 as in evaluation.
            classes: names of the classes, if those of the training data are unknown or unwanted.
            batch_size: number of images of similar size per batch; by default 1, on a GPU 4.
            workers: number of threads that read and compute; by default 2.
            opts: overrides ``[key, value, ...]`` of the config.

        Raises:
            MissingFileError: the config or checkpoint does not exist.
            DownloadError: the weights cannot be downloaded.
            MissingPackageError: the backend's package is not installed.
            UserError: unknown model, device or backend, a value out of range, a value given both as
                an argument and in ``opts``, or a checkpoint that lacks parts of the detector.
        """
        for name, value in (("batch_size", batch_size), ("workers", workers)):
            if value is not None and value < 1:
                raise UserError(f"{name} is {value}; choose 1 or more.")
        if classes:
            check_only_one("classes", ["DATASETS.CLASSES"], opts)
            opts = [*opts, "DATASETS.CLASSES", list(classes)]
        cfg = prediction_config(
            model, weights=weights, device=device, score_threshold=score_threshold, opts=opts
        )
        self.cfg, self.score_threshold = cfg, score_threshold
        self.batch_size = batch_size or (4 if cfg.MODEL.DEVICE.startswith("cuda") else 1)
        self.workers = workers or 2
        self.metadata = build_metadata(cfg)
        self.augmentations = T.AugmentationList(
            with_resizer(build_augmentation(cfg, is_train=False), cfg.INPUT.RESIZE)
        )
        self.model = build_trained(cfg)
        if backend != "plain":
            self.model = optimize_for_inference(self.model, backend=backend)

    def __call__(self, source: Any, *, channels: str | None = None) -> Prediction | Predictions:
        """Predicts on an image or several.

        Args:
            source: path of an image, a folder or a video, a PIL image, an array (uint8, height x
                width, x 3 or x 4), or a list of these.
            channels: "RGB" or "BGR", the channel order of arrays.

        Returns:
            The prediction of a single image, else a list of predictions. All are kept in memory,
            masks included: for thousands of images or a video, use :meth:`stream`.

        Raises:
            MissingFileError, TypeError: see :func:`open_source`.
            UserError: see :func:`open_source`, or a single image cannot be read. Of several images,
                unreadable ones are skipped, and listed in the result's ``failed`` and in the log.
        """
        opened = open_source(source, channels)
        if opened.single:
            (result,) = self._work(list(opened.images))
            if isinstance(result, Failure):
                raise UserError(f"{result.name} cannot be read: {result.reason}")
            return result
        stream = self._stream(opened)
        predictions = Predictions()
        for prediction in stream:
            image = prediction.image
            prediction.image = image._replace(read=image.read_later)
            predictions.append(prediction)
        predictions.failed = stream.failed
        return predictions

    def stream(self, source: Any, *, channels: str | None = None) -> Stream:
        """Yields predictions one at a time, with only a few in memory.

        Raises:
            MissingFileError, TypeError, UserError: see :func:`open_source`.
        """
        return self._stream(open_source(source, channels))

    def _stream(self, source: Source) -> Stream:
        chunk = 1 if self.batch_size == 1 else self.batch_size * CHUNK
        if source.number:  # so that every thread has some images
            chunk = min(chunk, -(-source.number // self.workers))
        return Stream(source, self._work, chunk=chunk, workers=self.workers)

    def _work(self, images: list[InputImage]) -> list[Prediction | Failure]:
        """Reads and predicts. Images of a batch have the same padding, so results do not change."""
        results: dict[int, Prediction | Failure] = {}
        batches = defaultdict(list)
        for i, image in enumerate(images):
            try:
                one = self._prepare(image)
            except Exception as error:
                if not costs_one_image(error):
                    raise
                results[i] = failure_of(image, error)
                continue
            batches[self._padded(one["image"])].append((i, one))
        for alike in batches.values():
            for start in range(0, len(alike), self.batch_size):
                indices, inputs = zip(*alike[start : start + self.batch_size], strict=True)
                for i, found in zip(indices, self._detect(list(inputs)), strict=True):
                    if isinstance(found, Exception):
                        results[i] = failure_of(images[i], found)
                    else:
                        results[i] = self._prediction(images[i], found)
        return [results[i] for i in range(len(images))]

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

    def _prepare(self, image: InputImage) -> dict:
        pixels = _read(image, self.cfg.INPUT.FORMAT)
        resized = T.AugInput(pixels)
        self.augmentations(resized)
        tensor = torch.from_numpy(np.ascontiguousarray(resized.image.transpose(2, 0, 1)))
        return {"image": tensor, "height": pixels.shape[0], "width": pixels.shape[1]}

    def _padded(self, image: torch.Tensor) -> tuple[int, ...]:
        """Height and width of an image after the padding that it would have alone."""
        backbone: Any = self.model.backbone
        step = max(1, backbone.size_divisibility)
        return tuple(-(-side // step) * step for side in image.shape[1:])

    def _prediction(self, image: InputImage, found: dict) -> Prediction:
        segments, info = found.get("panoptic_seg", (None, None))
        return Prediction(
            image=image,
            instances=found["instances"].to("cpu"),
            metadata=self.metadata,
            threshold=self.score_threshold,
            panoptic=None if segments is None else (segments.cpu(), info),
        )


def _read(image: InputImage, order: str) -> np.ndarray:
    """Pixels in the form of INPUT.FORMAT: (H, W, 3), or (H, W, 1) as in training for "L"."""
    if order != GREY:
        return image.read(order)
    return convert_PIL_to_numpy(Image.fromarray(np.ascontiguousarray(image.read("RGB"))), GREY)
