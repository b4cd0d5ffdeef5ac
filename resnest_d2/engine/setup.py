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

from resnest_d2.config import (
    check_config,
    check_trained,
    find_config,
    given_keys,
    is_written_by_a_run,
    load_config,
    load_recipe,
)
from resnest_d2.data import register_datasets
from resnest_d2.data.augment import with_augmentations
from resnest_d2.deploy import keep_freed_memory
from resnest_d2.errors import UserError
from resnest_d2.files import make_folder, whole_file

from .anchors import AnchorFit, fit_anchors, with_anchors_of_run
from .cluster import is_restart
from .console import Console
from .earlier_run import check_folder
from .folder_lock import lock_folder
from .guards import load_training_images
from .logs import begin_logs, held_logs
from .scaling import scale_schedule
from .schedule import fit_schedule


def choose_device(cfg: CfgNode) -> bool:
    """Sets MODEL.DEVICE to the CPU if it is CUDA and there is no GPU; returns whether it did."""
    no_cuda = cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available()
    if no_cuda:
        cfg.MODEL.DEVICE = "cpu"
    return no_cuda


class Setup(NamedTuple):
    """What a run begins with.

    Attributes:
        cfg: its config, frozen.
        images: the images that it trains on; None where it evaluates only.
        given: keys that the user set.
        anchors: those fitted to the images; None if they are the config's.
    """

    cfg: CfgNode
    images: list[dict] | None
    given: frozenset[str]
    anchors: AnchorFit | None = None


def setup(args: argparse.Namespace) -> Setup:
    """Reads a run's config, registers its datasets, sets up its logs and resolves its schedule.

    Writes config.yaml (the final config), environment.txt and log.txt to OUTPUT_DIR, and locks this
    folder until the process ends. Programs call it in each of their processes; on a CPU it calls
    :func:`resnest_d2.deploy.keep_freed_memory`.

    Args:
        args: arguments of :func:`resnest_d2.engine.run.argument_parser`.

    Raises:
        UserError: no config file, one that contradicts itself or its data, or a new training in
            the folder of another.
        FolderInUseError: another process runs in OUTPUT_DIR.
        WriteError: OUTPUT_DIR cannot be written to.
    """
    if not args.config_file:
        raise UserError("--config-file is missing; see resnest_d2.model_zoo.list_configs().")
    _check_flags(args)
    args.config_file = find_config(args.config_file)  # detectron2 logs the file's contents
    with held_logs():
        cfg = load_config(args.config_file, args.opts)
        given = given_keys(args.config_file, args.opts)
        scheduled = is_written_by_a_run(args.config_file)
        check_config(cfg, fitted=scheduled or "TEST.EVAL_PERIOD" in given)
        register_datasets(cfg, given=given)
        cfg = with_anchors_of_run(cfg) if args.resume else cfg
        if args.eval_only:
            check_trained(cfg)
        no_cuda = choose_device(cfg)
        if cfg.MODEL.DEVICE == "cpu" and comm.get_world_size() > 1:
            torch.set_num_threads(max(1, torch.get_num_threads() // args.num_gpus))
        if cfg.MODEL.DEVICE == "cpu":
            keep_freed_memory()
        if comm.is_main_process():
            lock_folder(cfg.OUTPUT_DIR, restarted=is_restart(os.environ))
        if not args.eval_only and not args.resume:
            if comm.is_main_process() or not args.overwrite:
                check_folder(cfg.OUTPUT_DIR, overwrite=args.overwrite)
        # Deleted before another process begins its log; read before it is replaced.
        comm.synchronize()
        make_folder(cfg.OUTPUT_DIR)
        if not args.dry_run:
            console = Console.of(quiet=args.quiet, verbose=args.verbose)
            begin_logs(cfg.OUTPUT_DIR, console)
    images = anchors = None
    if not args.eval_only:
        with_augmentations([], cfg)  # its errors come now, and not after the detector is built
        images = load_training_images(cfg)
        cfg = with_schedule(cfg, args, given=given, images=len(images))
        anchors = fit_anchors(cfg, images)
        cfg = anchors.cfg if anchors else cfg
    cfg.freeze()
    if args.dry_run:
        with whole_file(os.path.join(cfg.OUTPUT_DIR, "config.yaml"), "w") as file:
            file.write(cfg.dump())
        return Setup(cfg, images, given, anchors)
    default_setup(cfg, args)
    logger = logging.getLogger(__name__)
    if comm.is_main_process():
        with whole_file(os.path.join(cfg.OUTPUT_DIR, "environment.txt"), "w") as file:
            file.write(collect_env_info() + "\n")
    if no_cuda:
        logger.info(f"No CUDA device: running on the CPU, {torch.get_num_threads()} threads.")
    return Setup(cfg, images, given, anchors)


def _check_flags(args: argparse.Namespace) -> None:
    """Checks options that contradict each other, before anything is read."""
    if args.quiet and args.verbose:
        raise UserError("--quiet and --verbose exclude each other; give one of them.")
    given = [f for f in ("overwrite", "resume", "dry_run", "eval_only") if getattr(args, f)]
    if len(given) > 1 and given != ["resume", "eval_only"]:
        first, second = (f"--{name.replace('_', '-')}" for name in given[:2])
        raise UserError(f"{first} and {second} exclude each other; give one of them.")


def with_schedule(
    cfg: CfgNode, args: argparse.Namespace, *, given: frozenset[str], images: int
) -> CfgNode:
    """The config with the schedule that runs: fitted, or for a run's config.yaml its own.

    Args:
        cfg: config of the training.
        args: ``config_file`` and ``opts`` that it was read from.
        given: keys that the user set.
        images: number of images that it would train on.
    """
    processes = comm.get_world_size()
    if is_written_by_a_run(args.config_file):
        return scale_schedule(cfg, images=images, processes=processes, given=args.opts[::2])
    recipe = load_recipe(args.config_file)
    return fit_schedule(cfg, recipe, images=images, processes=processes, given=given)
