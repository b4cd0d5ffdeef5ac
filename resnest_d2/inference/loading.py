"""The detector to predict with: from the name of a published one, a config, or a run's folder."""

import os
from collections.abc import Sequence

import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data.catalog import Metadata
from detectron2.modeling import build_model
from torch import nn

from resnest_d2.checkpoint import ReportingCheckpointer
from resnest_d2.data.registration import learn_classes
from resnest_d2.model_zoo import RUN_WEIGHTS, find_model, find_run, get_config, load_config

from .sources import ORDERS


def prediction_config(
    model: str | os.PathLike | CfgNode,
    *,
    weights: str | os.PathLike | None,
    device: str,
    score_threshold: float | None,
    opts: Sequence,
) -> CfgNode:
    """Config to predict with, frozen; the data that it names may be missing.

    Args:
        model: see :class:`Predictor`, as for all others.
        weights: None for what belongs to the model.
        device: "auto", or torch's name of one.
        score_threshold: None for the config's.
        opts: ``[key, value, ...]`` to override.

    Raises:
        FileNotFoundError: a folder without config or checkpoint, or no such config.
        ValueError: no published model of that name, no such device, a threshold out of range, or
            keys that contradict each other.
    """
    if score_threshold is not None and not 0 <= score_threshold <= 1:
        raise ValueError(f"score_threshold is {score_threshold}; choose 0 to 1.")
    device = _choose_device(device)
    if isinstance(model, CfgNode):
        cfg = model.clone()
        cfg.defrost()
        cfg.merge_from_list(list(opts))
    else:
        cfg, own = _find(os.fspath(model), trained=weights is None, opts=opts)
        weights = weights or own
    learn_classes(cfg)
    if cfg.INPUT.FORMAT not in ORDERS:
        raise ValueError(f"INPUT.FORMAT is {cfg.INPUT.FORMAT!r}; choose from {ORDERS}.")
    cfg.MODEL.WEIGHTS = os.fspath(weights or cfg.MODEL.WEIGHTS)
    cfg.MODEL.DEVICE = device
    if score_threshold is not None:
        for section in ("ROI_HEADS", "RETINANET"):
            cfg.MODEL[section].SCORE_THRESH_TEST = score_threshold
    cfg.freeze()
    return cfg


def _find(name: str, *, trained: bool, opts: Sequence) -> tuple[CfgNode, str | None]:
    """Config of a name, and the checkpoint found with it."""
    checkpoint = None
    if os.path.isfile(name) and name.endswith((".pth", ".safetensors")):
        name, checkpoint = os.path.dirname(name) or ".", name
    if os.path.isdir(name):
        config, found = find_run(name)
        checkpoint = checkpoint or found
        if trained and not checkpoint:
            raise FileNotFoundError(
                f"{name} has none of {', '.join(RUN_WEIGHTS)}; say weights=... yourself."
            )
        return load_config(config, opts, with_data=False), checkpoint
    if name.endswith((".yaml", ".yml")) and not _is_published(name):
        return load_config(name, opts, with_data=False), None
    return get_config(name, trained, opts), None


def _is_published(name: str) -> bool:
    try:
        find_model(name)
    except ValueError:
        return False
    return True


def _choose_device(device: str) -> str:
    has_cuda = torch.cuda.is_available()
    if device == "auto":
        return "cuda" if has_cuda else "cpu"
    if device.startswith("cuda") and not has_cuda:
        raise ValueError(f"device is {device!r}, but torch finds no CUDA here; choose 'cpu'.")
    return device


def build_trained(cfg: CfgNode) -> nn.Module:
    """The config's detector with all its weights, in eval mode.

    Raises:
        OSError: the weights cannot be read or fetched.
        ValueError: there are none, or not for every part.
    """
    if not cfg.MODEL.WEIGHTS:
        raise ValueError("There are no weights to predict with: say weights=..., a checkpoint.")
    model = build_model(cfg).eval()
    checkpointer = ReportingCheckpointer(model)
    checkpointer.load(cfg.MODEL.WEIGHTS)
    checkpointer.report.check_complete()
    return model


def build_metadata(cfg: CfgNode) -> Metadata:
    """Names and ids of the classes; colours and all else of a registered data set."""
    names, ids = list(cfg.DATASETS.CLASSES), list(cfg.DATASETS.CATEGORY_IDS)
    known = MetadataCatalog.get(cfg.DATASETS.TEST[0]).as_dict() if cfg.DATASETS.TEST else {}
    if names:
        known = {**known, "thing_classes": names, "category_ids": ids}
    return Metadata(**{**known, "name": "predictions"})
