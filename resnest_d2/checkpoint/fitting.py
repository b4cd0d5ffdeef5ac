"""How a checkpoint fits a model, found out without memory for the model."""

import warnings

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from .loading import LoadReport, ReportingCheckpointer


def build_on_meta(cfg: CfgNode) -> nn.Module:
    """The config's model on the meta device: its tensors have shapes, and no values."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        return build_model(cfg)


def fit(path: str, model: nn.Module) -> LoadReport:
    """What loading a checkpoint into a model would do.

    Args:
        path: path or name of the checkpoint.
        model: of :func:`build_on_meta`.

    Raises:
        UserError: the checkpoint is of another model.
    """
    checkpointer = ReportingCheckpointer(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that copying to a meta tensor does nothing
        checkpointer.load(path)
    assert checkpointer.report  # of the load
    return checkpointer.report
