"""Batches as a detector is given them, to be looked at without training."""

import argparse
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.utils.env import seed_all_rng

from resnest_d2.config import check_config, given_keys, load_config
from resnest_d2.data import register_datasets
from resnest_d2.errors import UserError

from .guards import load_training_images
from .loading import build_training_loader
from .setup import with_schedule
from .validation_loss import build_validation_loader


class Preview(NamedTuple):
    """What is to be drawn.

    Attributes:
        cfg: config that the batches follow.
        datasets: names of their datasets.
        classes: names of their classes, if known.
        batches: in the form of detectron2's mapper.
    """

    cfg: CfgNode
    datasets: tuple[str, ...]
    classes: list[str]
    batches: Iterator[list[dict]]


def preview_batches(config_file: str, opts: Sequence[str], *, split: str, number: int) -> Preview:
    """Reads a config, and the first batches of its training or validation images.

    Args:
        config_file: path of the config, or config.yaml of a run.
        opts: keys and values.
        split: "train", shuffled and augmented, or "val", in the order of the file.
        number: of batches; there may be fewer of "val".

    Returns:
        The batches, which with SEED are always the same.

    Raises:
        UserError: a fault of the config or of its data, or no data of that split.
    """
    cfg = load_config(config_file, opts)
    given = given_keys(config_file, opts)
    check_config(cfg, fitted=False)
    key = "TRAIN" if split == "train" else "TEST"
    datasets = tuple(cfg.DATASETS[key])
    if not datasets:
        raise UserError(f"There is nothing to show: DATASETS.{key} is empty; set it, or --data.")
    register_datasets(cfg, given=given)
    if cfg.SEED >= 0:
        seed_all_rng(cfg.SEED)
    if split == "train":
        images = load_training_images(cfg)
        args = argparse.Namespace(config_file=config_file, opts=list(opts))
        cfg = with_schedule(cfg, args, given=given, images=len(images))
        batches = iter(build_training_loader(cfg, images))
    else:
        batches = _in_batches(build_validation_loader(cfg), cfg.SOLVER.IMS_PER_BATCH)
    classes = MetadataCatalog.get(datasets[0]).get("thing_classes", [])
    return Preview(cfg, datasets, list(classes), itertools.islice(batches, number))


def _in_batches(loader: Iterable[list[dict]], size: int) -> Iterator[list[dict]]:
    """Batches of a loader of single images; the last may be smaller."""
    images = itertools.chain.from_iterable(loader)
    while batch := list(itertools.islice(images, size)):
        yield batch
