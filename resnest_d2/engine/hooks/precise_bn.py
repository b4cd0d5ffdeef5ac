"""Builds detectron2's hook for precise statistics of batch norms."""

from collections.abc import Callable, Iterable

from detectron2.config import CfgNode
from detectron2.engine.hooks import PreciseBN
from fvcore.nn.precise_bn import get_bn_modules
from torch import nn


def build_precise_bn(
    cfg: CfgNode, model: nn.Module, build_loader: Callable[[CfgNode], Iterable]
) -> PreciseBN | None:
    """The hook, which stands before those that save and evaluate; None without TEST.PRECISE_BN.

    Args:
        cfg: config of the training.
        model: that is trained; without batch norms in training there is no hook either.
        build_loader: makes batches of training images.
    """
    keys = cfg.TEST
    if not (keys.PRECISE_BN.ENABLED and get_bn_modules(model)):
        return None
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATALOADER.NUM_WORKERS = 0  # it needs few images
    loader = build_loader(cfg)  # of its own, so that the training's keeps its order
    return PreciseBN(keys.EVAL_PERIOD, model, loader, keys.PRECISE_BN.NUM_ITER)
