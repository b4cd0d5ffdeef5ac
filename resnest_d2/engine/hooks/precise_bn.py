"""Builds detectron2's hook for precise statistics of batch norms."""

from collections.abc import Callable, Iterable

from detectron2.config import CfgNode
from detectron2.engine.hooks import PreciseBN
from fvcore.nn.precise_bn import get_bn_modules
from torch import nn


def build_precise_bn(
    cfg: CfgNode, model: nn.Module, build_loader: Callable[[CfgNode], Iterable]
) -> PreciseBN | None:
    """Builds the hook, which must precede those that save and evaluate.

    Args:
        cfg: config of the training.
        model: model that is trained.
        build_loader: builds a loader of training batches.

    Returns:
        The hook; None without TEST.PRECISE_BN or without batch norms in training mode.
    """
    keys = cfg.TEST
    if not (keys.PRECISE_BN.ENABLED and get_bn_modules(model)):
        return None
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATALOADER.NUM_WORKERS = 0  # it needs few images
    loader = build_loader(cfg)  # a separate loader, so that the training's keeps its order
    return PreciseBN(keys.EVAL_PERIOD, model, loader, keys.PRECISE_BN.NUM_ITER)
