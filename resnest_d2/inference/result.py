"""Detections of one image: detectron2's Instances, drawings and other formats.

Shapes: N detections, H, W of the image.
"""

import io
import json
import os
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from detectron2.data.catalog import Metadata
from detectron2.structures import Instances
from PIL import Image

from resnest_d2.errors import MissingPackageError, UserError
from resnest_d2.files import whole_file
from resnest_d2.outputs import require_new

from .drawing import draw
from .formats import COLUMNS, coco_results, json_record, rows
from .images import InputImage
from .masks import PackedMasks
from .threshold import DEFAULT

if TYPE_CHECKING:
    import pandas
    import supervision

SHOWN = 1000  # pixels of the longer side in a notebook
DRAWINGS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}


@dataclass(repr=False)
class Prediction:
    """Detections of one image. It keeps no pixels of files, which are read again for drawing.

    Attributes:
        image: the image.
        instances: detectron2's Instances, on the CPU, in pixels of the EXIF-rotated image. Masks
            of sliced images are PackedMasks; tracked ones have ``track_ids``.
        metadata: names and ids of the classes, if known.
        threshold: requested lowest score; None for the config's.
        panoptic: map of segments (H, W), and their descriptions, of a panoptic detector.
    """

    image: InputImage
    instances: Instances
    metadata: Metadata
    threshold: float | None = None
    panoptic: tuple[torch.Tensor, list[dict]] | None = None

    @property
    def name(self) -> str:
        """File name, ``video.mp4#12`` for a frame, ``image 3`` for an image from memory."""
        return self.image.name

    @property
    def path(self) -> str | None:
        """Path or address of the image or video; None for an image from memory or of a camera."""
        return self.image.path

    @property
    def frame(self) -> int | None:
        """Number of the frame in a video, from 0."""
        return self.image.frame

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the image."""
        return self.instances.image_size

    @property
    def boxes(self) -> np.ndarray:
        """Corners x0, y0, x1, y1 of the boxes in pixels, float32 (N, 4)."""
        return self.instances.pred_boxes.tensor.numpy()

    @property
    def scores(self) -> np.ndarray:
        """Scores, 0 to 1, float32 (N,)."""
        return self.instances.scores.numpy()

    @property
    def classes(self) -> np.ndarray:
        """Indices of the classes, from 0, int64 (N,)."""
        return self.instances.pred_classes.numpy()

    @property
    def names(self) -> np.ndarray:
        """Names of the classes, str (N,); the index as text if names are unknown."""
        return np.array(self.class_names, dtype=str)

    @property
    def masks(self) -> np.ndarray | None:
        """Masks, bool (N, H, W); None of a detector without masks.

        Of a sliced image they are kept as RLE, which this unpacks.
        """
        if not self.instances.has("pred_masks"):
            return None
        masks = self.instances.pred_masks
        return masks.dense() if isinstance(masks, PackedMasks) else masks.numpy()

    @property
    def track_ids(self) -> np.ndarray | None:
        """Number of the track of each detection, -1 for none yet, int64 (N,); None untracked."""
        found = self.instances
        return found.track_ids.numpy() if found.has("track_ids") else None

    @property
    def class_names(self) -> list[str]:
        """Class name of each instance; the class index if names are unknown."""
        known = self.metadata.get("thing_classes")
        return [known[c] if known else str(c) for c in self.classes.tolist()]

    def __len__(self) -> int:
        return len(self.instances)

    def __repr__(self) -> str:
        counts = Counter(self.class_names).most_common()
        found = ", ".join(f"{number} {name}" for name, number in counts) or "nothing"
        return f"Prediction({self.name}: {found})"

    def draw(
        self, *, threshold: float | None = None, scale: float = 1.0, scores: bool = True
    ) -> Image.Image:
        """Draws the detections on the image, in one colour per class.

        Args:
            threshold: lowest score to draw; None for the predictor's, else 0.5.
            scale: scale of the drawing relative to the image.
            scores: whether scores are written behind the class names.

        Raises:
            UserError: the file can no longer be read.
        """
        if threshold is None:
            threshold = DEFAULT if self.threshold is None else self.threshold
        chosen = self.instances.scores >= threshold
        # Indexing copies masks, which are most of the memory.
        kept = self.instances if bool(chosen.all()) else self.instances[chosen]
        pixels = self.image.read("RGB")
        ids = kept.track_ids.tolist() if kept.has("track_ids") else None
        options: dict[str, Any] = {
            "panoptic": self.panoptic,
            "scale": scale,
            "scores": scores,
            "ids": ids,
        }
        return draw(pixels, kept, self.metadata, **options)

    def save(self, path: str | os.PathLike, *, overwrite: bool = False, **options: Any) -> None:
        """Writes the drawing of :meth:`draw` to a file.

        Args:
            path: path of the file, whose ending is the format: .jpg, .png and so on.
            overwrite: replace the file if it exists; the image itself is never replaced.
            **options: of :meth:`draw`.

        Raises:
            OutputExistsError: the file exists.
            UserError: an unknown format, the image itself, or as :meth:`draw`.
            WriteError: it cannot be written.
        """
        require_new([path], overwrite=overwrite, sources=[self.path] if self.path else [])
        suffix = os.path.splitext(os.fspath(path))[1].lower()
        if suffix not in DRAWINGS:
            raise UserError(f"{path} is no image by its name; choose from {', '.join(DRAWINGS)}.")
        drawn = self.draw(**options)
        with whole_file(path) as file:
            drawn.save(file, DRAWINGS[suffix], **({"quality": 95} if suffix != ".png" else {}))

    def show(self, **options: Any) -> None:
        """Shows the drawing of :meth:`draw` in the system's viewer of images.

        Args:
            **options: of :meth:`draw`.
        """
        self.draw(**options).show(title=self.name)

    def _repr_png_(self) -> bytes:
        """The drawing as a notebook shows it, at most :data:`SHOWN` pixels wide or high."""
        scale = min(1.0, SHOWN / max(self.image_size))
        buffer = io.BytesIO()
        self.draw(scale=scale).save(buffer, "PNG")
        return buffer.getvalue()

    def to_json(self) -> str:
        """Converts to a JSON text: file_name, frame, height, width and detections.

        Each of the detections has ``name``, ``category_id``, ``bbox`` [x, y, width, height] in
        pixels, ``score``, with masks ``segmentation`` (RLE), and with tracks ``track_id``.
        """
        return json.dumps(json_record(self))

    def to_pandas(self) -> "pandas.DataFrame":
        """Converts to a DataFrame of a row for each detection.

        Its columns are file_name, name, class_id, score (0 to 1), x0, y0, x1, y1 (pixels) and
        track_id.

        Raises:
            MissingPackageError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise MissingPackageError(
                "to_pandas needs pandas: pip install 'resnest-d2[pandas]'."
            ) from error
        return pandas.DataFrame(rows(self), columns=COLUMNS)

    def to_coco(self, image_id: int) -> list[dict]:
        """Converts to result records in COCO's format, as written by the evaluation.

        Args:
            image_id: id of the image. Category ids are those of the training data if known, else
                class indices from 0.
        """
        return coco_results(self, image_id)

    def to_supervision(self) -> "supervision.Detections":
        """Converts to supervision's Detections, with class names in ``data["class_name"]``.

        Masks are (N, H, W), and ids of tracks are in ``tracker_id``.
        """
        import supervision

        detections = supervision.Detections(
            xyxy=self.boxes,
            confidence=self.scores,
            class_id=self.classes,
            mask=self.masks,
            tracker_id=self.track_ids,
        )
        detections.data["class_name"] = self.names
        return detections
