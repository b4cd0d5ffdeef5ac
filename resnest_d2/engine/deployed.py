"""Optimized and quantized detectors in evaluations, as MODEL.DEPLOY asks for them."""

from typing import NamedTuple

from detectron2.config import CfgNode
from torch import nn

from resnest_d2.deploy import check_precision, optimize_for_inference
from resnest_d2.deploy.export.int8 import quantized_beside


class Deployed(NamedTuple):
    """A detector for inference, and the config that its images are read by."""

    cfg: CfgNode
    model: nn.Module


def build_deployed(cfg: CfgNode, model: nn.Module, *, weights: str) -> Deployed:
    """The detector that MODEL.DEPLOY asks for.

    Args:
        cfg: config with MODEL.DEPLOY.ENABLED.
        model: the detector, in eval mode.
        weights: path of its checkpoint.

    Raises:
        MissingFileError, MissingPackageError, UserError: as :func:`optimize_for_inference`, and
            :func:`resnest_d2.deploy.export.int8.quantized_beside` for int8.
    """
    keys = cfg.MODEL.DEPLOY
    precision, device = keys.PRECISION, cfg.MODEL.DEVICE.partition(":")[0]
    if precision == "int8":
        check_precision(precision, device=device, backend=keys.BACKEND)
        threshold = cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST
        file = quantized_beside(model, weights, score_threshold=threshold)
        return Deployed(file.config_of_images(cfg), file)
    if precision == "auto" and keys.AMP:
        precision = "fp16" if device == "cuda" else "bf16"
    return Deployed(cfg, optimize_for_inference(model, backend=keys.BACKEND, precision=precision))
