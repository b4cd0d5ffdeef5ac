"""Loads a detector for prediction: a published one, a config, or the folder of a run."""

import os
from collections.abc import Sequence

import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data.catalog import Metadata
from detectron2.modeling import build_model
from torch import nn

from resnest_d2.checkpoint import ReportingCheckpointer
from resnest_d2.config import check_config, given_keys, load_config, override, with_defaults
from resnest_d2.data.registration import learn_classes
from resnest_d2.errors import MissingFileError, UserError
from resnest_d2.model_zoo import RUN_WEIGHTS, find_detector

from .sources import GREY, ORDERS
from .threshold import KEYS


def prediction_config(
    model: str | os.PathLike | CfgNode,
    *,
    weights: str | os.PathLike | None,
    device: str,
    score_threshold: float | None,
    opts: Sequence,
) -> CfgNode:
    """Returns a frozen config for prediction; the data in it may be missing.

    Args:
        model: see :class:`Predictor`, also for the other arguments.
        weights: None for the model's weights.
        device: "auto" for the device in ``opts``, else a GPU if available; or a torch device.
        score_threshold: None for the config's.
        opts: overrides ``[key, value, ...]``; MODEL.WEIGHTS replaces the model's weights.

    Raises:
        MissingFileError: a folder without config or checkpoint, or an unknown config.
        UserError: unknown published model, unknown device, threshold out of range, or keys and
            arguments that contradict each other.
    """
    if score_threshold is not None and not 0 <= score_threshold <= 1:
        raise UserError(f"score_threshold is {score_threshold}; choose 0 to 1.")
    for argument, given, keys in (
        ("weights", weights is not None, ["MODEL.WEIGHTS"]),
        ("device", device != "auto", ["MODEL.DEVICE"]),
        ("score_threshold", score_threshold is not None, KEYS),
    ):
        check_only_one(argument, keys if given else (), opts)
    if isinstance(model, CfgNode):
        cfg = with_defaults(model).clone()
        cfg.defrost()
        override(cfg, opts)
        learn_classes(cfg)
    else:
        found = find_detector(os.fspath(model))
        cfg = load_config(found.config, opts)
        learn_classes(cfg, given=given_keys(found.config, opts))
        if "MODEL.WEIGHTS" not in opts[::2]:
            weights = weights or found.weights
            if found.run and not weights:
                raise MissingFileError(
                    f"{model} has none of {', '.join(RUN_WEIGHTS)}; pass the weights argument."
                )
    if cfg.INPUT.FORMAT not in (*ORDERS, GREY):
        raise UserError(f"INPUT.FORMAT is {cfg.INPUT.FORMAT!r}; choose from {(*ORDERS, GREY)}.")
    cfg.MODEL.WEIGHTS = os.fspath(weights or cfg.MODEL.WEIGHTS)
    cfg.MODEL.DEVICE = _choose_device(cfg.MODEL.DEVICE if "MODEL.DEVICE" in opts[::2] else device)
    if score_threshold is not None:
        override(cfg, [part for key in KEYS for part in (key, float(score_threshold))])
    check_config(cfg, predicting=True)
    cfg.freeze()
    return cfg


def check_only_one(argument: str, keys: Sequence[str], opts: Sequence) -> None:
    """Raises an error if an argument and ``opts`` both set a key."""
    for key in keys:
        if key in opts[::2]:
            raise UserError(f"{argument} and {key} in opts both set it; leave one of them out.")


def _choose_device(device: str) -> str:
    has_cuda = torch.cuda.is_available()
    if device == "auto":
        return "cuda" if has_cuda else "cpu"
    try:
        torch.device(device)
    except RuntimeError as error:
        raise UserError(
            f"device is {device!r}; choose auto, cpu, cuda, or cuda:1 and so on."
        ) from error
    if device.startswith("cuda") and not has_cuda:
        raise UserError(f"device is {device!r}, but torch finds no CUDA here; choose 'cpu'.")
    return device


def build_trained(cfg: CfgNode) -> nn.Module:
    """Builds the config's detector with all its weights, in eval mode.

    Raises:
        DownloadError: the weights cannot be downloaded.
        UserError: there are no weights, they cannot be read, or parts are missing.
    """
    if not cfg.MODEL.WEIGHTS:
        raise UserError("There are no weights to predict with: pass weights=..., a checkpoint.")
    model = build_model(cfg).eval()
    checkpointer = ReportingCheckpointer(model)
    checkpointer.load(cfg.MODEL.WEIGHTS)
    assert checkpointer.report  # set by loading
    checkpointer.report.check_complete()
    return model


def build_metadata(cfg: CfgNode) -> Metadata:
    """Names and ids of the classes; for registered datasets all metadata, such as colours."""
    names, ids = list(cfg.DATASETS.CLASSES), list(cfg.DATASETS.CATEGORY_IDS)
    known = MetadataCatalog.get(cfg.DATASETS.TEST[0]).as_dict() if cfg.DATASETS.TEST else {}
    if names:
        known = {**known, "thing_classes": names, "category_ids": ids}
    return Metadata(**{**known, "name": "predictions"})
