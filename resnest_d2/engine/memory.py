"""Estimates the memory of a training step without computing it."""

from typing import Any

import torch
from detectron2.config import CfgNode
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef


def training_bytes(model: nn.Module, cfg: CfgNode, images: int) -> int:
    """Memory of a training step of one process: weights, their optimizer, and activations.

    Counted for the largest input of INPUT.MIN_SIZE_TRAIN and MAX_SIZE_TRAIN. Temporary memory of
    the operations comes on top, as do proposals and losses, which are small.

    Args:
        model: a GeneralizedRCNN on the meta device.
        cfg: its config.
        images: number of images in the process's batch.

    Returns:
        Bytes in float32.
    """
    parameters = list(model.parameters())
    weights = sum(p.numel() for p in parameters)
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    # A gradient and SGD's momentum for each trained weight.
    return 4 * (weights + 2 * trained) + _activations(model, cfg, images)


def _activations(model: Any, cfg: CfgNode, images: int) -> int:
    weights = {StorageWeakRef(p.untyped_storage()) for p in model.parameters()}
    kept: dict[StorageWeakRef, int] = {}
    alive = []  # so that no storage is counted under the address of a freed one

    def count(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        reference = StorageWeakRef(storage)
        if reference not in weights:
            alive.append(storage)
            kept[reference] = storage.nbytes()
        return tensor

    step = model.backbone.size_divisibility or 1
    sides = (max(cfg.INPUT.MIN_SIZE_TRAIN), cfg.INPUT.MAX_SIZE_TRAIN)
    height, width = (-(-side // step) * step for side in sides)
    image = torch.zeros(images, 3, height, width, device="meta")
    model.train()
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        features = model.backbone(image)
        _run_heads(model, features, cfg, images)
    return sum(kept.values())


def _run_heads(model: Any, features: dict, cfg: CfgNode, images: int) -> None:
    """The heads on as many proposals as they sample."""
    rpn: Any = getattr(model, "proposal_generator", None)
    if hasattr(rpn, "rpn_head"):
        rpn.rpn_head([features[name] for name in rpn.in_features])
    heads: Any = getattr(model, "roi_heads", None)
    proposals = images * cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE
    if not hasattr(heads, "box_head"):
        return
    channels = next(iter(features.values())).shape[1]
    for box_head in _each(heads.box_head):
        side = cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION
        box_head(torch.zeros(proposals, channels, side, side, device="meta"))
    foreground = round(proposals * cfg.MODEL.ROI_HEADS.POSITIVE_FRACTION)
    for mask_head in _each(getattr(heads, "mask_head", None)):
        side = cfg.MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION
        mask_head.layers(torch.zeros(foreground, channels, side, side, device="meta"))


def _each(head: nn.Module | None) -> list:
    """The heads of all stages, or the only one."""
    if head is None:
        return []
    return list(head) if isinstance(head, nn.ModuleList) else [head]
