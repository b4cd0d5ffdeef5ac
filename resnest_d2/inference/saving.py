"""What ``predict`` writes: one class for each kind of result, and the table of them.

Each takes the predictions in their order, and completes its files when it is closed, also where the
command is stopped. Names of files are those of the images, and none is written twice.
"""

import contextlib
import csv
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from resnest_d2.files import WriteError, make_folder, whole_file
from resnest_d2.outputs import free_name, name_fault

from .formats import COLUMNS, file_name, rows, yolo_text
from .preannotation import CocoFile, LabelmeFiles
from .result import Prediction
from .stem import stem_of, video_stem
from .stream import Failure, Stream, costs_one_image, failure_of
from .tracking import FPS, video_of
from .video import VideoWriter


class JsonRecords:
    """predictions.json: COCO's result records with the image's ``file_name``."""

    verb = "recorded"

    def __init__(self, folder: Path):
        """See the module, also for the other classes."""
        self._path, self._records = folder / "predictions.json", list[dict]()

    def add(self, prediction: Prediction, image_id: int) -> None:
        """Takes the next prediction."""
        name = file_name(prediction)
        self._records += [{**r, "file_name": name} for r in prediction.to_coco(image_id)]

    def close(self) -> list[str]:
        """Completes the files; returns sentences on them."""
        with whole_file(self._path, "w") as file:
            json.dump(self._records, file)
        return []


class CsvTable:
    """predictions.csv: a row for each detection, boxes in pixels."""

    verb = "recorded"

    def __init__(self, folder: Path):
        self._path, self._rows = folder / "predictions.csv", list[dict]()

    def add(self, prediction: Prediction, image_id: int) -> None:
        self._rows += rows(prediction)

    def close(self) -> list[str]:
        with whole_file(self._path, "w") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self._rows)
        return []


class YoloLabels:
    """labels/a.txt of each image: class, box or polygon as shares of its sides, and score."""

    verb = "recorded"

    def __init__(self, folder: Path):
        self._folder, self._names = folder, set[str]()
        self._classes: list[str] = []

    def add(self, prediction: Prediction, image_id: int) -> None:
        self._classes = list(prediction.metadata.get("thing_classes") or ())
        make_folder(self._folder / "labels")
        name = free_name(stem_of(prediction), ".txt", self._names)
        with whole_file(self._folder / "labels" / name, "w") as file:
            file.write(yolo_text(prediction))

    def close(self) -> list[str]:
        if self._classes:
            with whole_file(self._folder / "classes.txt", "w") as file:
                file.writelines(" ".join(name.split()) + "\n" for name in self._classes)
        return []


class Crops:
    """crops/CLASS/a_1.jpg: what is inside of each box."""

    verb = "cropped"

    def __init__(self, folder: Path):
        self._folder, self._names = folder / "crops", dict[str, set[str]]()

    def add(self, prediction: Prediction, image_id: int) -> None:
        height, width = prediction.image_size
        pixels = prediction.image.read("RGB") if len(prediction) else None
        for number, (name, class_id, box) in enumerate(
            zip(prediction.class_names, prediction.classes, prediction.boxes, strict=True), 1
        ):
            x0, y0 = (max(0, math.floor(v)) for v in box[:2].tolist())
            x1, y1 = min(width, math.ceil(box[2])), min(height, math.ceil(box[3]))
            if pixels is None or x1 <= x0 or y1 <= y0:
                continue
            kind = f"class_{class_id}" if name_fault(name) else name
            folder, taken = self._folder / kind, self._names.setdefault(kind, set())
            make_folder(folder)
            target = folder / free_name(f"{stem_of(prediction)}_{number}", ".jpg", taken)
            _write_jpeg(Image.fromarray(pixels[y0:y1, x0:x1]), target)

    def close(self) -> list[str]:
        return []


class Drawings:
    """a.jpg of each image, and v.mp4 of each video."""

    verb = "drawn"

    def __init__(self, folder: Path, *, frames: bool = False):
        """
        Args:
            folder: folder to write to.
            frames: also write each frame of a video as an image, v_000012.jpg.
        """
        self._folder, self._frames = folder, frames
        self._names: set[str] = set()
        self._video: VideoWriter | None = None
        self._last: tuple[Any, int] = (None, -1)
        self._notes: list[str] = []

    def add(self, prediction: Prediction, image_id: int) -> None:
        drawn = prediction.draw()
        if prediction.frame is None or self._frames:
            name = free_name(stem_of(prediction), ".jpg", self._names)
            _write_jpeg(drawn, self._folder / name)
        if prediction.frame is not None:
            self._video_of(prediction, prediction.frame).add(drawn)

    def _video_of(self, prediction: Prediction, frame: int) -> VideoWriter:
        """The video that a frame belongs to, a new one at the first frame of the next."""
        source = video_of(prediction.image)
        if self._video is None or source != self._last[0] or frame <= self._last[1]:
            self._finish()
            name = free_name(video_stem(prediction.name), ".mp4", self._names)
            self._video = VideoWriter(self._folder / name, prediction.image.fps or FPS)
        self._last = (source, frame)
        return self._video

    def _finish(self) -> None:
        if self._video is not None:
            video, self._video = self._video, None
            video.close()
            kind = "mp4v" if video.encoder == "mp4v" else f"H.264, {video.encoder}"
            frames = f"{video.frames} frame{'s' * (video.frames != 1)}"
            self._notes.append(f"{video.path}: {frames} ({kind}).")

    def close(self) -> list[str]:
        self._finish()
        return self._notes


def _write_jpeg(image: Image.Image, path: Path) -> None:
    with whole_file(path) as file:
        image.save(file, "JPEG", quality=95)


# By the option --save-NAME of the command, and in the order that they are written.
SAVERS: dict[str, Callable[[Path], Any]] = {
    "json": JsonRecords,
    "csv": CsvTable,
    "txt": YoloLabels,
    "crops": Crops,
    "labelme": LabelmeFiles,
    "coco": CocoFile,
}


@dataclass
class Tally:
    """What was done so far.

    Attributes:
        images: number of images that were predicted.
        counts: number of detections of each class.
        notes: sentences on the files that were written.
        started: time of the start, in seconds of :func:`time.monotonic`.
    """

    images: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def __str__(self) -> str:
        seconds = (time.monotonic() - self.started) / max(self.images, 1)
        found = ", ".join(f"{number} {name}" for name, number in self.counts.most_common())
        images, each = ("image", "") if self.images == 1 else ("images", " each")
        took = f"{self.images} {images} processed, {seconds:.3g} s{each}"
        return f"{took}: {found or 'nothing found'}"


def _close(saver: Any, tally: Tally) -> None:
    tally.notes.extend(saver.close())


def save_all(stream: Stream, savers: Sequence[Any], tally: Tally) -> None:
    """Writes the predictions of a stream; the files are complete however it ends.

    An image that cannot be drawn or recorded is added to the stream's failures.

    Args:
        stream: the predictions.
        savers: what writes them, see :data:`SAVERS`.
        tally: counts what was done.

    Raises:
        WriteError: a file cannot be written.
    """
    with contextlib.ExitStack() as stack:
        for saver in savers:
            stack.callback(_close, saver, tally)
        for tally.images, prediction in enumerate(stream, 1):
            tally.counts.update(prediction.class_names)
            for saver in savers:
                try:
                    saver.add(prediction, tally.images)
                except Exception as error:
                    if isinstance(error, WriteError) or not costs_one_image(error):
                        raise
                    failure = failure_of(prediction.image, error)
                    reason = f"it cannot be {saver.verb}, {failure.reason}"
                    stream.failed.append(Failure(file_name(prediction), reason))
                    break
