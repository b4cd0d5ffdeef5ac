"""Loaders of training batches and of test images, as the Trainer uses them."""

from collections.abc import Iterable

from detectron2.config import CfgNode
from detectron2.data import (
    DatasetFromList,
    build_detection_test_loader,
    build_detection_train_loader,
)

from resnest_d2.config import check_unsafe_keys
from resnest_d2.data.mapper import NamingDatasetMapper


def build_training_loader(cfg: CfgNode, images: list[dict]) -> Iterable[list[dict]]:
    """Builds a loader of training batches, with the augmentations of the config.

    Args:
        cfg: config of the training.
        images: images of :func:`resnest_d2.engine.guards.load_training_images`.

    Raises:
        UserError: see :func:`resnest_d2.data.augment.with_augmentations`.
    """
    dataset, pool = images, ()
    if cfg.INPUT.AUG.MOSAIC:
        dataset = pool = DatasetFromList(images, copy=False)  # packed once, for all workers
    mapper = NamingDatasetMapper(cfg, is_train=True, pool=pool)
    return build_detection_train_loader(cfg, mapper=mapper, dataset=dataset)


def build_evaluation_loader(cfg: CfgNode, dataset_name: str) -> Iterable[list[dict]]:
    """Builds a loader of a dataset's images, one at a time, without their truth.

    Raises:
        UserError: see :func:`resnest_d2.config.check_unsafe_keys`.
    """
    check_unsafe_keys(cfg)
    mapper = NamingDatasetMapper(cfg, is_train=False)
    return build_detection_test_loader(cfg, dataset_name, mapper=mapper)
