"""Objects followed through a video: ByteTrack of the package trackers.

Paper: https://arxiv.org/abs/2110.06864. Package: https://github.com/roboflow/trackers

Shapes: N detections of a frame.
"""

from typing import Any

import numpy as np
import torch

from resnest_d2.errors import MissingPackageError, UserError

from .images import InputImage
from .result import Prediction

FPS = 30.0  # of videos that do not tell theirs


def video_of(image: InputImage) -> tuple[str | None, str]:
    """What the frames of one video share: its path and name."""
    return image.path, image.name.rpartition("#")[0]


class Tracker:
    """Gives the detections of a video's frames the numbers of their objects, ``track_ids``.

    Numbers count from 0 in every video; a detection has -1 until its object was seen twice.
    """

    def __init__(self, threshold: float):
        """
        Args:
            threshold: lowest score of a detection that begins a track.

        Raises:
            MissingPackageError: trackers is not installed.
        """
        try:
            from trackers import ByteTrackTracker
        except ImportError as error:
            raise MissingPackageError(
                "Tracking needs trackers: pip install --no-deps trackers (with its dependencies "
                "pip would put opencv-python over opencv-python-headless)."
            ) from error
        self._make, self._threshold = ByteTrackTracker, threshold
        self._tracker: Any = None
        self._last: tuple[tuple[str | None, str], int] | None = None

    def update(self, prediction: Prediction) -> None:
        """Sets ``track_ids`` (N,) of the next frame's instances.

        Raises:
            UserError: the image is not a frame of a video.
        """
        import supervision

        image = prediction.image
        if image.frame is None:
            raise UserError(f"{image.name} is an image; only objects in videos are tracked.")
        video = video_of(image)
        if self._last is None or self._last[0] != video or image.frame <= self._last[1]:
            self._tracker = self._make(
                frame_rate=image.fps or FPS,
                track_activation_threshold=self._threshold,
                high_conf_det_threshold=self._threshold,
            )
        self._last = (video, image.frame)
        detections = supervision.Detections(
            xyxy=prediction.boxes,
            confidence=prediction.scores,
            class_id=prediction.classes,
            data={"index": np.arange(len(prediction))},
        )
        tracked = self._tracker.update(detections)
        numbers = torch.full((len(prediction),), -1, dtype=torch.long)
        if len(tracked):  # in an order of its own
            numbers[torch.from_numpy(tracked.data["index"])] = torch.from_numpy(tracked.tracker_id)
        prediction.instances.track_ids = numbers
