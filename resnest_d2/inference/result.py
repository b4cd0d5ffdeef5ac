"""Detections of one image: detectron2's Instances, drawings and other formats."""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from detectron2.data.catalog import Metadata
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.structures import Instances
from PIL import Image

from resnest_d2.errors import MissingPackageError

from .drawing import draw
from .sources import InputImage

if TYPE_CHECKING:
    import supervision

DRAWN = 0.5  # default of the lowest score to draw


@dataclass(repr=False)
class Prediction:
    """Detections of one image. It keeps no pixels of files, which are read again for drawing.

    Attributes:
        image: the image.
        instances: detectron2's Instances, on the CPU, in pixels of the EXIF-rotated image.
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
        """Path of the image or video; None for an image from memory."""
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
    def class_names(self) -> list[str]:
        """Class name of each instance; the class index if names are unknown."""
        names = self.metadata.get("thing_classes")
        classes = self.instances.pred_classes.tolist()
        return [names[c] if names else str(c) for c in classes]

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
            threshold = DRAWN if self.threshold is None else self.threshold
        kept = self.instances[self.instances.scores >= threshold]
        pixels = self.image.read("RGB")
        return draw(pixels, kept, self.metadata, panoptic=self.panoptic, scale=scale, scores=scores)

    def to_coco(self, image_id: int) -> list[dict]:
        """Converts to result records in COCO's format, as written by the evaluation.

        Args:
            image_id: id of the image. Category ids are those of the training data if known, else
                class indices from 0.
        """
        found = self.instances
        if found.has("pred_keypoints"):  # the evaluator shifts them in place
            found = Instances(found.image_size, **found.get_fields())
            found.pred_keypoints = found.pred_keypoints.clone()
        ids = self.metadata.get("category_ids")
        records = instances_to_coco_json(found, image_id)
        for record in records:
            record["category_id"] = ids[record["category_id"]] if ids else record["category_id"]
        return records

    def to_supervision(self) -> "supervision.Detections":
        """Converts to supervision's Detections, with class names in ``data["class_name"]``.

        Raises:
            MissingPackageError: supervision is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise MissingPackageError(
                "to_supervision needs supervision: pip install 'resnest-d2[supervision]'."
            ) from error
        detections = supervision.Detections.from_detectron2({"instances": self.instances})
        detections.data["class_name"] = np.array(self.class_names, dtype=str)
        return detections
