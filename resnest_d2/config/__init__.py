"""Config keys, config files and their checks. Importing this registers nothing."""

from resnest_d2.shipped import config_dir, find_config, list_configs

from .checks import (
    check_backbone,
    check_config,
    check_trained,
    check_unsafe_keys,
    resolve_backbone,
)
from .files import (
    given_keys,
    is_written_by_a_run,
    load_config,
    load_recipe,
    override,
    resolve_dataset_paths,
)
from .keys import add_resnest_config, fill_defaults, get_cfg, with_defaults

__all__ = [
    "add_resnest_config",
    "check_backbone",
    "check_config",
    "check_trained",
    "check_unsafe_keys",
    "fill_defaults",
    "config_dir",
    "find_config",
    "get_cfg",
    "given_keys",
    "is_written_by_a_run",
    "list_configs",
    "load_config",
    "load_recipe",
    "override",
    "resolve_backbone",
    "resolve_dataset_paths",
    "with_defaults",
]
