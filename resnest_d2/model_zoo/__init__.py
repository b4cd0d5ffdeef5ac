"""Configs by name: those that ship with the package, read with everything they refer to."""

from .configs import config_dir, find_config, get_config, list_configs, load_config

__all__ = ["config_dir", "find_config", "get_config", "list_configs", "load_config"]
