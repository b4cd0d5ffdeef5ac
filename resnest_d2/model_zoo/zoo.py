"""Configs and detectors by name, as detectron2's model_zoo gives its own."""

from collections.abc import Sequence

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from resnest_d2.checkpoint import ReportingCheckpointer
from resnest_d2.config import find_config, load_config
from resnest_d2.errors import UserError

from .table import find_model


def get_config(name: str, trained: bool = False, opts: Sequence[str] = ()) -> CfgNode:
    """Config of a detector.

    Args:
        name: id or alias of a published detector, e.g. "faster_rcnn_s50", or the name of a config.
        trained: set MODEL.WEIGHTS to the published detector's; else they are those that a training
            starts from.
        opts: as in :func:`load_config`.

    Returns:
        The config; its data sets are not registered, see
        :func:`resnest_d2.data.registration.register_datasets`.

    Raises:
        FileNotFoundError: no config file of that name.
        ValueError: no model of that name, a backbone, or a config without published weights where
            they are asked for.
    """
    try:
        model = find_model(name)
    except ValueError:
        if trained or not name.endswith(".yaml"):
            raise
        return load_config(name, opts)
    if model.is_backbone:
        raise UserError(
            f"{model.id} is a backbone, no detector: set MODEL.WEIGHTS {model.path} and "
            f"MODEL.RESNETS {model.config} in a detector's config."
        )
    weights = ["MODEL.WEIGHTS", model.path] if trained else []
    return load_config(find_config(model.config), [*weights, *opts])


def get(name: str, trained: bool = False, device: str | None = None) -> nn.Module:
    """A detector with its weights, in training mode.

    Args:
        name: as in :func:`get_config`.
        trained: as in :func:`get_config`.
        device: where it goes; None for the config's, or the CPU where there is no GPU.

    Raises:
        OSError: the weights cannot be fetched.
        ValueError: as :func:`get_config`, or published weights that do not fit.
    """
    cfg = get_config(name, trained)
    if device is None and not torch.cuda.is_available():
        device = "cpu"
    cfg.MODEL.DEVICE = device or cfg.MODEL.DEVICE
    model = build_model(cfg)
    checkpointer = ReportingCheckpointer(model)
    checkpointer.load(cfg.MODEL.WEIGHTS)
    if trained and not checkpointer.report.complete:
        raise UserError(f"The published weights of {name} do not fit. {checkpointer.report}")
    return model
