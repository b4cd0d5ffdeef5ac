"""Predictor for images in any form."""

import logging
import os
from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from torch import nn

from resnest_d2.deploy import check_precision, optimize_for_inference
from resnest_d2.deploy.export import FileDetector
from resnest_d2.deploy.export.int8 import quantized_beside
from resnest_d2.errors import UserError

from .detecting import Detecting
from .detector import build_metadata, build_trained, check_only_one, prediction_config
from .images import Source
from .result import Prediction
from .selection import select
from .slicing import slicing_of
from .sources import open_source
from .stream import Failure, Predictions, Stream
from .threshold import choose_threshold
from .tracking import Tracker

CANDIDATES = 1000  # detections per image of which those of some classes are chosen
CHUNK = 4  # batches per chunk, within which images of similar size are grouped


class Predictor(Detecting):
    """Detects objects in images, with the preprocessing of the evaluation.

    ``Predictor("mask_rcnn_s50")("street.jpg").draw().show()``; :meth:`predict` is the same call.
    """

    def __init__(
        self,
        model: str | os.PathLike | CfgNode,
        *,
        weights: str | os.PathLike | None = None,
        device: str = "auto",
        backend: str = "eager",
        precision: str = "auto",
        score_threshold: float | None = None,
        classes: Sequence[str] = (),
        only: Sequence[str] = (),
        max_detections: int | None = None,
        slice_size: int | None = None,
        overlap: float = 0.2,
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
            precision: "fp32" (also "auto"); "bf16" or "fp16", faster where the processor has them,
                with slightly different results; "int8" for the file that
                ``resnest-d2 export RUN --precision int8`` wrote beside the weights.
            score_threshold: lowest score to keep; by default the one that the run's report
                recommends, else 0.5. The evaluation has the config's 0.05.
            classes: names of the classes, if those of the training data are unknown or unwanted.
            only: names of the classes to keep; by default all.
            max_detections: largest number of detections per image, the best ones; by default
                TEST.DETECTIONS_PER_IMAGE, of a sliced image in each slice.
            slice_size: side in pixels of slices that images are cut into, for small objects in
                large images; they are predicted whole, too. None does not cut them.
            overlap: share of a slice that its neighbour covers, too.
            batch_size: number of images of similar size per batch; by default 1, on a GPU 4.
            workers: number of threads that read and compute; by default 2.
            opts: overrides ``[key, value, ...]`` of the config.

        Raises:
            MissingFileError: the config, checkpoint or quantized file does not exist.
            DownloadError: the weights cannot be downloaded.
            MissingPackageError: the backend's package is not installed.
            UserError: unknown model, device, backend or class, a value out of range, a value given
                both as an argument and in ``opts``, or a checkpoint that lacks parts of the
                detector.
        """
        for name, value in (("batch_size", batch_size), ("workers", workers)):
            if value is not None and value < 1:
                raise UserError(f"{name} is {value}; choose 1 or more.")
        slicing = slicing_of(slice_size, overlap)
        opts = _with_keys(opts, classes=classes, only=only, limit=max_detections)
        chosen = choose_threshold(model, given=score_threshold, weights=weights, opts=opts)
        if score_threshold is None:
            logging.getLogger(__name__).info(chosen.note)
        cfg = prediction_config(
            model, weights=weights, device=device, score_threshold=chosen.value, opts=opts
        )
        if slicing and cfg.MODEL.META_ARCHITECTURE == "PanopticFPN":
            raise UserError("slice_size is for detectors of objects, and this one is panoptic.")
        self.workers = workers or 2
        metadata = build_metadata(cfg)
        detector = _build_detector(cfg, backend=backend, precision=precision)
        if isinstance(detector, FileDetector):
            cfg = detector.config_of_images(cfg)
        super().__init__(
            cfg,
            metadata,
            slicing=slicing,
            selection=select(metadata, only, max_detections),
            batch_size=batch_size or (4 if cfg.MODEL.DEVICE.startswith("cuda") else 1),
        )
        self.model = detector

    def __call__(
        self, source: Any, *, channels: str | None = None, every: int = 1
    ) -> Prediction | Predictions:
        """Predicts on an image or several.

        Args:
            source: images in any form of :func:`open_source`: a path, a folder, a pattern, an
                address, bytes, a PIL image, an array, a tensor, or a list of these.
            channels: "RGB" or "BGR", the channel order of arrays and tensors.
            every: take every n-th frame of videos.

        Returns:
            The prediction of a single image, else a list of predictions. All are kept in memory,
            masks included: for thousands of images or a video, use :meth:`stream`.

        Raises:
            MissingFileError, TypeError: see :func:`open_source`.
            UserError: see :func:`open_source`, a camera, or a single image cannot be read. Of
                several images, unreadable ones are skipped, and listed in the result's ``failed``
                and in the log.
        """
        opened = open_source(source, channels, every=every)
        if opened.endless:
            raise UserError("A camera or stream never ends; iterate over stream(...) instead.")
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

    predict = __call__

    def stream(
        self, source: Any, *, channels: str | None = None, every: int = 1, track: bool = False
    ) -> Stream:
        """Yields predictions one at a time, with only a few in memory.

        Args:
            source: see :meth:`__call__`; also the number of a camera or the address of a stream.
            channels: "RGB" or "BGR", the channel order of arrays and tensors.
            every: take every n-th frame of videos and streams.
            track: follow the objects through each video, see :attr:`Prediction.track_ids`.

        Raises:
            MissingFileError, TypeError, UserError: see :func:`open_source`.
            MissingPackageError: ``track``, and trackers is not installed.
        """
        stream = self._stream(open_source(source, channels, every=every))
        if track:
            stream.each = Tracker(self.score_threshold).update
        return stream

    def _stream(self, source: Source) -> Stream:
        for note in source.notes:
            logging.getLogger(__name__).info(note)
        one = self.batch_size == 1 or self.slicing or source.endless  # no frames are waited for
        chunk = 1 if one else self.batch_size * CHUNK
        if source.number:  # so that every thread has some images
            chunk = min(chunk, -(-source.number // self.workers))
        return Stream(source, self._work, chunk=chunk, workers=self.workers)


def _build_detector(cfg: CfgNode, *, backend: str, precision: str) -> nn.Module:
    device = cfg.MODEL.DEVICE.partition(":")[0]
    if backend == "plain":
        if precision not in ("auto", "fp32"):
            raise UserError(f"The backend plain computes in fp32; precision is {precision!r}.")
        return build_trained(cfg)
    precision = check_precision(precision, device=device, backend=backend)
    model = build_trained(cfg)
    if precision == "int8":
        threshold = cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST
        return quantized_beside(model, cfg.MODEL.WEIGHTS, score_threshold=threshold)
    return optimize_for_inference(model, backend=backend, precision=precision)


def _with_keys(
    opts: Sequence, *, classes: Sequence[str], only: Sequence[str], limit: int | None
) -> list:
    """Keys of the config that the arguments set."""
    keys: dict[str, Any] = {}
    if classes:
        check_only_one("classes", ["DATASETS.CLASSES"], opts)
        keys["DATASETS.CLASSES"] = list(classes)
    if limit is not None:
        check_only_one("max_detections", ["TEST.DETECTIONS_PER_IMAGE"], opts)
    if only or limit is not None:  # what is kept is chosen afterwards
        keys["TEST.DETECTIONS_PER_IMAGE"] = max(limit or 0, CANDIDATES if only else 1)
    return [*opts, *(part for pair in keys.items() for part in pair)]
