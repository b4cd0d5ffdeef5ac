"""Configs and published models by name; importing this makes ``resnest://`` known to detectron2."""

from detectron2.utils.file_io import PathManager

from resnest_d2.checkpoint import WeightsHandler
from resnest_d2.config import config_dir, find_config, list_configs, load_config, override

from .runs import RUN_WEIGHTS, Detector, find_detector
from .table import Model, find_model, list_models, models
from .zoo import get, get_config

PathManager.register_handler(
    WeightsHandler(lambda name: find_model(name).origin), allow_override=True
)

__all__ = [
    "RUN_WEIGHTS",
    "Detector",
    "Model",
    "config_dir",
    "find_config",
    "find_detector",
    "find_model",
    "get",
    "get_config",
    "list_configs",
    "list_models",
    "load_config",
    "models",
    "override",
]
