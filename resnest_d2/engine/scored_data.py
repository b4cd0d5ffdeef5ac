"""COCO files as data to calibrate and to score exported detectors with."""

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from torch import nn

from resnest_d2.config import given_keys, load_config
from resnest_d2.data import register_datasets
from resnest_d2.data.coco import forget_datasets
from resnest_d2.data.entries import Paths
from resnest_d2.data.mapper import NamingDatasetMapper
from resnest_d2.deploy.export import FileDetector, file_input, without_resizing
from resnest_d2.errors import UserError

from .evaluation_request import Evaluation
from .metrics import by_dataset
from .trainer import Trainer


class Dataset(NamedTuple):
    """A registered dataset, and the config of an evaluation on it."""

    cfg: CfgNode
    name: str


def open_dataset(model: str, data: Paths, *, weights: str | None = None) -> Dataset:
    """Registers a COCO file for the detector of that name.

    Args:
        model: a run, a checkpoint in it, a published detector, or a config.
        data: COCO annotations, or these and the folder of their images.
        weights: path of a checkpoint; None for the model's own.

    Raises:
        MissingFileError, UserError: as :func:`resnest_d2.evaluate`.
    """
    args = Evaluation(model=model, data=data, weights=weights).arguments()
    cfg = load_config(args.config_file, args.opts)
    forget_datasets(name for name, *_ in cfg.DATASETS.COCO)
    register_datasets(cfg, given=given_keys(args.config_file, args.opts))
    cfg.MODEL.DEVICE = "cpu"
    return Dataset(cfg, cfg.DATASETS.TEST[0])


class Images(Sequence):
    """Images of a dataset as inputs of an exported file, read when they are asked for."""

    def __init__(self, dataset: Dataset, number: int, *, resizes: bool):
        """
        Args:
            dataset: where the images are from.
            number: how many at most, spread over the dataset.
            resizes: whether the file resizes them.
        """
        records = DatasetCatalog.get(dataset.name)
        if not records:
            raise UserError(f"{dataset.name} has no images to calibrate with.")
        chosen = np.linspace(0, len(records) - 1, min(number, len(records))).astype(int)
        self._records = [records[i] for i in chosen]
        self._resizes = resizes
        cfg = without_resizing(dataset.cfg) if resizes else dataset.cfg
        self._mapper = NamingDatasetMapper(cfg, is_train=False)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: Any) -> Any:
        return file_input(self._mapper(self._records[index])["image"], resizes=self._resizes)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[i] for i in range(len(self)))


def score(dataset: Dataset, model: nn.Module) -> dict[str, dict]:
    """COCO metrics of a detector or a file, in percent by task; nothing is kept."""
    cfg = dataset.cfg
    if isinstance(model, FileDetector):
        cfg = model.config_of_images(cfg)
    cfg = cfg.clone()
    cfg.defrost()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        cfg.OUTPUT_DIR = os.fspath(folder)
        results = Trainer.test(cfg, model)
    return by_dataset(results, list(cfg.DATASETS.TEST))[dataset.name]
