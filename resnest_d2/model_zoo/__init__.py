"""Configs and published models by name; each name is imported when it is first used."""

from typing import TYPE_CHECKING

from resnest_d2.lazy import lazy_names

if TYPE_CHECKING:
    from resnest_d2.config import load_config, override
    from resnest_d2.shipped import config_dir, find_config, list_configs

    from .backbones import get_backbone
    from .lazy_configs import find_lazy_config, get_lazy_config, list_lazy_configs
    from .runs import RUN_WEIGHTS, Detector, find_detector, find_weights
    from .table import Model, find_model, list_models, models
    from .zoo import get, get_config

__all__ = [
    "RUN_WEIGHTS",
    "Detector",
    "Model",
    "config_dir",
    "find_config",
    "find_detector",
    "find_lazy_config",
    "find_model",
    "find_weights",
    "get",
    "get_backbone",
    "get_config",
    "get_lazy_config",
    "list_configs",
    "list_lazy_configs",
    "list_models",
    "load_config",
    "models",
    "override",
]
__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "..config": ("load_config", "override"),
        "..shipped": ("config_dir", "find_config", "list_configs"),
        ".backbones": ("get_backbone",),
        ".lazy_configs": ("find_lazy_config", "get_lazy_config", "list_lazy_configs"),
        ".runs": ("RUN_WEIGHTS", "Detector", "find_detector", "find_weights"),
        ".table": ("Model", "find_model", "list_models", "models"),
        ".zoo": ("get", "get_config"),
    },
)
