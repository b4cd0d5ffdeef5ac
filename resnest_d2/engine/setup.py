"""From command line to config: device, logs, and what a run leaves of itself in OUTPUT_DIR."""

import argparse
import logging
import os

import torch
from detectron2.config import CfgNode
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info

from resnest_d2.config import check_config, find_config, given_keys, load_config
from resnest_d2.data import register_datasets
from resnest_d2.deploy import keep_freed_memory
from resnest_d2.errors import UserError


def choose_device(cfg: CfgNode) -> bool:
    """Set MODEL.DEVICE to the CPU where it asks for CUDA and there is none; True if so."""
    no_cuda = cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available()
    if no_cuda:
        cfg.MODEL.DEVICE = "cpu"
    return no_cuda


def setup(args: argparse.Namespace) -> CfgNode:
    """Config of a run, frozen; its data sets registered, its logs begun.

    OUTPUT_DIR receives config.yaml, environment.txt and log.txt.

    Args:
        args: of :func:`detectron2.engine.default_argument_parser`.

    Raises:
        ValueError: no config file, or one that contradicts itself or its data.
    """
    if not args.config_file:
        raise UserError("--config-file is missing; see resnest_d2.model_zoo.list_configs().")
    args.config_file = find_config(args.config_file)  # detectron2 logs the file's contents
    cfg = load_config(args.config_file, args.opts)
    check_config(cfg)
    register_datasets(cfg, given=given_keys(args.config_file, args.opts))
    no_cuda = choose_device(cfg)
    if cfg.MODEL.DEVICE == "cpu" and comm.get_world_size() > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // args.num_gpus))
    if cfg.MODEL.DEVICE == "cpu":
        keep_freed_memory()
    cfg.freeze()
    default_setup(cfg, args)
    logger = logging.getLogger("resnest_d2")
    if comm.is_main_process():
        # detectron2 sets up the log of its own names only
        for handler in logging.getLogger("detectron2").handlers:
            if handler not in logger.handlers:
                logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        with open(os.path.join(cfg.OUTPUT_DIR, "environment.txt"), "w") as file:
            file.write(collect_env_info() + "\n")
    if no_cuda:
        logger.info(f"No CUDA device: running on the CPU, {torch.get_num_threads()} threads.")
    return cfg
