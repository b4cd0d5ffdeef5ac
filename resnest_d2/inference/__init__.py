"""Prediction on paths, folders, images, arrays and videos."""

from .detector import build_metadata, build_trained, prediction_config
from .predictor import Predictor
from .result import Prediction
from .stream import Failure, Predictions, Stream, costs_one_image, failure_of

__all__ = [
    "Failure",
    "Prediction",
    "Predictions",
    "Predictor",
    "Stream",
    "build_metadata",
    "build_trained",
    "costs_one_image",
    "failure_of",
    "prediction_config",
]
