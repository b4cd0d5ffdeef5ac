"""Configs and detectors by name, with the interface of detectron2's model_zoo."""

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
    """Loads the config of a detector.

    Args:
        name: id or alias of a published detector, such as "faster_rcnn_s50", or name of a config.
        trained: set MODEL.WEIGHTS to the published detector's weights instead of the config's
            initial weights.
        opts: overrides, see :func:`load_config`.

    Returns:
        The config; its data sets are not registered, see
        :func:`resnest_d2.data.registration.register_datasets`.

    Raises:
        MissingFileError: there is no config file of that name.
        UserError: there is no model of that name, it is a backbone, or ``trained`` is set and the
            config has no published weights.
    """
    try:
        model = find_model(name)
    except UserError:
        if trained or not name.endswith(".yaml"):
            raise
        return load_config(name, opts)
    if model.is_backbone:
        raise UserError(
            f"{model.id} is a backbone, not a detector: set MODEL.WEIGHTS {model.path} and "
            f"MODEL.RESNETS {model.config} in a detector's config."
        )
    weights = ["MODEL.WEIGHTS", model.path] if trained else []
    return load_config(find_config(model.config), [*weights, *opts])


def get(name: str, trained: bool = False, device: str | None = None) -> nn.Module:
    """Builds a detector in training mode and loads its weights.

    Args:
        name: see :func:`get_config`.
        trained: see :func:`get_config`.
        device: device of the model; None for the config's, or for the CPU if there is no GPU.

    Raises:
        OSError: the weights cannot be fetched.
        UserError: see :func:`get_config`; or the published weights do not fit.
    """
    cfg = get_config(name, trained)
    if device is None and not torch.cuda.is_available():
        device = "cpu"
    cfg.MODEL.DEVICE = device or cfg.MODEL.DEVICE
    model = build_model(cfg)
    checkpointer = ReportingCheckpointer(model)
    checkpointer.load(cfg.MODEL.WEIGHTS)
    report = checkpointer.report
    if trained and not (report and report.complete):
        raise UserError(f"The published weights of {name} do not fit. {report}")
    return model
