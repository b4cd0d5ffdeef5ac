"""Prediction on images in any form, folders, videos, cameras and streams."""

from .detector import build_metadata, build_trained, prediction_config
from .masks import PackedMasks
from .predictor import Predictor
from .result import Prediction
from .sources import open_source
from .stream import Failure, Predictions, Stream, costs_one_image, failure_of
from .threshold import Threshold, choose_threshold
from .tracking import Tracker

__all__ = [
    "Failure",
    "PackedMasks",
    "Prediction",
    "Predictions",
    "Predictor",
    "Stream",
    "Threshold",
    "Tracker",
    "build_metadata",
    "build_trained",
    "choose_threshold",
    "costs_one_image",
    "failure_of",
    "open_source",
    "prediction_config",
]
