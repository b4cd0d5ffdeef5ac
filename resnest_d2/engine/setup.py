"""Setup of a run from the command line: config, device, logs and files in OUTPUT_DIR."""

import argparse
import logging
import os
from typing import NamedTuple

import torch
from detectron2.config import CfgNode
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info

from resnest_d2.config import check_config, find_config, given_keys, load_config
from resnest_d2.data import register_datasets
from resnest_d2.deploy import keep_freed_memory
from resnest_d2.errors import UserError
from resnest_d2.files import make_folder, whole_file

from .guards import load_training_images
from .logs import begin_logs
from .schedule import resolve_schedule


def choose_device(cfg: CfgNode) -> bool:
    """Sets MODEL.DEVICE to the CPU if it is CUDA and there is no GPU; returns whether it did."""
    no_cuda = cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available()
    if no_cuda:
        cfg.MODEL.DEVICE = "cpu"
    return no_cuda


class Setup(NamedTuple):
    """Config of a run, frozen, and its training images; None for evaluation only."""

    cfg: CfgNode
    images: list[dict] | None


def setup(args: argparse.Namespace) -> Setup:
    """Reads a run's config, registers its datasets, sets up its logs and resolves its schedule.

    Writes config.yaml (the final config), environment.txt and log.txt to OUTPUT_DIR. Programs call
    it in each of their processes; on a CPU it calls :func:`resnest_d2.deploy.keep_freed_memory`.

    Args:
        args: arguments of :func:`detectron2.engine.default_argument_parser`.

    Raises:
        UserError: no config file, or one that contradicts itself or its data.
        WriteError: OUTPUT_DIR cannot be written to.
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
    make_folder(cfg.OUTPUT_DIR)
    begin_logs(cfg.OUTPUT_DIR)
    images = None
    if not args.eval_only:
        images = load_training_images(cfg)
        cfg = resolve_schedule(cfg, images=len(images), processes=comm.get_world_size())
    cfg.freeze()
    default_setup(cfg, args)
    logger = logging.getLogger(__name__)
    if comm.is_main_process():
        with whole_file(os.path.join(cfg.OUTPUT_DIR, "environment.txt"), "w") as file:
            file.write(collect_env_info() + "\n")
    if no_cuda:
        logger.info(f"No CUDA device: running on the CPU, {torch.get_num_threads()} threads.")
    return Setup(cfg, images)
