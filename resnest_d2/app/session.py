"""What a visitor has opened and what was found in it: predicted once, then filtered and drawn.

A detector predicts at a low score, so that a higher threshold or fewer classes need no detector:
its best detections are the same.
"""

import logging
import os
import shutil
import threading
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from resnest_d2.compat.pytorch import is_out_of_memory
from resnest_d2.errors import UserError, printable, report_defect
from resnest_d2.inference import Failure, PackedMasks, Prediction, Predictor, open_source
from resnest_d2.inference.images import Source
from resnest_d2.inference.saving import JsonRecords
from resnest_d2.inference.slicing import slicing_of
from resnest_d2.inference.threshold import DEFAULT, choose_threshold
from resnest_d2.inference.tracking import FPS
from resnest_d2.inference.video import VideoWriter

LOWEST = 0.05  # score to predict at, as in the evaluation
FRAMES = 200  # of a video, evenly taken; their detections are kept in memory
SHOWN = 1600  # pixels of the longer side of a drawing


class Detector:
    """A detector for many visitors, who wait for each other.

    Attributes:
        name: safe to show.
        threshold: lowest score to begin with, the recommended one.
        lowest: lowest score that is predicted.
        classes: names of the classes, safe to show; empty if unknown.
    """

    def __init__(self, model: str, *, name: str | None = None, **options: Any):
        """
        Args:
            model: see :class:`Predictor`.
            name: short name; by default the model as it is given.
            **options: of :class:`Predictor`, without the threshold.

        Raises:
            UserError: as :class:`Predictor`.
        """
        chosen = choose_threshold(model, weights=options.get("weights")).value
        self.name = printable(name or model)
        self.threshold = DEFAULT if chosen is None else chosen
        self.lowest = min(LOWEST, self.threshold)
        self._predictor = Predictor(model, score_threshold=self.lowest, **options)
        self._lock = threading.Lock()
        known = self._predictor.metadata.get("thing_classes") or ()
        self.classes = [*dict.fromkeys(map(printable, known))]

    def predict(self, source: Source, slice_size: int | None) -> list[Prediction | Failure]:
        """Predictions of all images of a source, cut into slices of this size, or whole."""
        slicing = slicing_of(slice_size, 0.2)
        with self._lock:
            self._predictor.slicing = slicing
            return [*self._predictor.stream(source).results()]


@dataclass
class Visit:
    """An image or a video that was opened, and what the detectors have found in it.

    Attributes:
        source: path of a file, or an image from memory.
        folder: empty folder for the files to download, which :meth:`close` removes.
        found: predictions by detector and slice size, so that none runs twice.
    """

    source: str | Image.Image
    folder: Path
    found: dict[tuple[str, int | None], list[Prediction]] = field(default_factory=dict)

    def find(self, detector: Detector, slice_size: int | None = None) -> list[Prediction]:
        """Predictions of the image, or of the frames of the video; computed once.

        Raises:
            UserError: it is no image or video, or is damaged, or there is not enough memory.
        """
        key = detector.name, slice_size
        if key not in self.found:
            results = detector.predict(self._open(), slice_size)
            kept = [_to_keep(r) for r in results if isinstance(r, Prediction)]
            if not kept:
                reason = next((r.reason for r in results if isinstance(r, Failure)), "no frames")
                raise UserError(f"{self.name} cannot be read: {reason.removesuffix('.')}.")
            self.found[key] = kept
        return self.found[key]

    @property
    def name(self) -> str:
        """Name of the file without its folder."""
        return os.path.basename(self.source) if isinstance(self.source, str) else "The image"

    def _open(self) -> Source:
        """The image, or at most :data:`FRAMES` frames of the video."""
        try:
            source = open_source(self.source)
            every = -(-(source.number or 1) // FRAMES)
            if every > 1:
                source = open_source(self.source, every=every)
        except UserError as error:  # the folder is none of the visitor's
            raise UserError(str(error).replace(f"{self.source}", self.name)) from error
        return source._replace(images=islice(source.images, FRAMES), number=None)

    def draw(self, predictions: Sequence[Prediction]) -> Image.Image | str:
        """The drawing of an image, or the path of the annotated video."""
        first = predictions[0]
        scale = min(1.0, SHOWN / max(first.image_size))
        if first.frame is None:
            return first.draw(scale=scale)
        drawn = {p.frame: p for p in predictions}
        number = len(list(self.folder.glob("*.mp4"))) + 1
        path = self.folder / f"drawn_{number}.mp4"  # browsers would keep one of the same name
        video = VideoWriter(path, first.image.fps or FPS)
        for image in self._open().images:  # in their order, which is faster than each by itself
            if image.frame in drawn:
                video.add(replace(drawn[image.frame], image=image).draw(scale=scale))
        video.close()
        return str(path)

    def write_json(self, predictions: Sequence[Prediction], number: int) -> str:
        """Writes the detections as COCO's result records.

        Args:
            predictions: of the image, or of the frames.
            number: of the detector, whose folder it is.

        Returns:
            The path of the file.
        """
        folder = self.folder / f"{number}"
        folder.mkdir(exist_ok=True)
        records = JsonRecords(folder)
        for image_id, prediction in enumerate(predictions, 1):
            records.add(prediction, image_id)
        records.close()
        return str(folder / "predictions.json")

    def close(self) -> None:
        """Removes the files to download."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _to_keep(prediction: Prediction) -> Prediction:
    """A prediction without pixels of files, with packed masks, and without the server's path."""
    image, found = prediction.image, prediction.instances
    if found.has("pred_masks") and not isinstance(found.pred_masks, PackedMasks):
        found.pred_masks = PackedMasks.place(found.pred_masks, (0, 0), found.image_size)
    return replace(prediction, image=image._replace(read=image.read_later, path=None))


def keep(prediction: Prediction, *, threshold: float, classes: Collection[str] = ()) -> Prediction:
    """The detections of a prediction from a score on.

    Args:
        prediction: at a lower score.
        threshold: lowest score to keep.
        classes: names to keep, as :attr:`Detector.classes` has them; empty for all.
    """
    found = prediction.instances
    wanted = found.scores >= threshold
    if classes:
        named = [printable(name) in classes for name in prediction.class_names]
        wanted &= torch.tensor(named, dtype=torch.bool)
    return replace(prediction, instances=found[wanted], threshold=threshold)


def short_names(models: Sequence[str]) -> list[str]:
    """Names of models without their folders where that tells them apart."""
    names = [os.path.basename(os.path.abspath(m)) if os.path.exists(m) else m for m in models]
    return [s if names.count(s) == 1 else m for s, m in zip(names, models, strict=True)]


def table(predictions: Sequence[Prediction]) -> list[list[Any]]:
    """A row for each detection: class, score, corners in pixels, number of the frame or None."""
    return [
        [printable(name), round(score, 3), *(round(v, 1) for v in box), prediction.frame]
        for prediction in predictions
        for name, score, box in zip(
            prediction.class_names,
            prediction.scores.tolist(),
            prediction.boxes.tolist(),
            strict=True,
        )
    ]


def count(predictions: Sequence[Prediction]) -> Counter[str]:
    """Numbers of detections by class; of a video, of all frames together."""
    return Counter(printable(name) for p in predictions for name in p.class_names)


def sentence_of(error: Exception) -> str:
    """What a visitor is told of an error; a defect's traceback is in the log."""
    if isinstance(error, UserError):
        return printable(error)
    if is_out_of_memory(error):
        return "There is not enough memory for this image; choose a smaller one, or other tiles."
    logging.getLogger(__name__).error(str(report_defect(error)))
    return "There was an internal error; the program's console names the file with its traceback."
