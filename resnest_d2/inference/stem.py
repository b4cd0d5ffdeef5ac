"""Names of the files that are written of an image or a frame, without their ending."""

from pathlib import Path

from .result import Prediction
from .videos import VIDEOS


def video_stem(name: str) -> str:
    """``v`` of the frame ``v.mp4#12``; the name of a camera as it is."""
    video = name.rpartition("#")[0]
    return Path(video).stem if Path(video).suffix.lower() in VIDEOS else video


def stem_of(prediction: Prediction) -> str:
    """``a`` of the image ``a.png``, ``v_000012`` of the frame ``v.mp4#12``."""
    if prediction.frame is not None:
        return f"{video_stem(prediction.name)}_{prediction.frame:06}"
    return Path(prediction.name).stem
