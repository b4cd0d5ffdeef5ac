"""Losses of a detector on DATASETS.TEST, comparable between evaluations."""

import torch
from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader, get_detection_dataset_dicts
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from fvcore.nn.precise_bn import get_bn_modules
from torch import nn

from resnest_d2.data.mapper import NamingDatasetMapper
from resnest_d2.progress import counted


def build_validation_loader(cfg: CfgNode) -> torch.utils.data.DataLoader:
    """Builds a loader of annotated images of DATASETS.TEST, one at a time, resized for testing."""
    args = NamingDatasetMapper.from_config(cfg, is_train=False)
    # Bitmasks can be made from polygons and RLE, in any dataset.
    mapper = NamingDatasetMapper(**{**args, "is_train": True, "instance_mask_format": "bitmask"})
    images = get_detection_dataset_dicts(cfg.DATASETS.TEST, filter_empty=False)
    return build_detection_test_loader(
        images, mapper=mapper, num_workers=cfg.DATALOADER.NUM_WORKERS
    )


@torch.no_grad()
def validation_losses(model: nn.Module, loader: torch.utils.data.DataLoader) -> dict:
    """Computes mean losses over all images.

    The detector is in training mode, but its batch norms use their running statistics without
    updating them, and region sampling uses the same random numbers in each call.

    Args:
        model: detector in training mode; its state and the random state are restored.
        loader: loader of :func:`build_validation_loader`.

    Returns:
        ``{"validation": {name: loss, "total_loss": their sum}}`` on the main process, else {}.
    """
    model = getattr(model, "module", model)  # processes may have different numbers of images
    norms = get_bn_modules(model)
    mean = {k: v for k, v in vars(model).items() if k == "loss_normalizer"}  # RetinaNet's average
    device = next(model.parameters()).device
    sums: dict[str, float] = {}
    count = 0
    try:
        for norm in norms:
            norm.eval()
        # A separate storage, so that the heads' training statistics are discarded.
        with torch.random.fork_rng([device] if device.type == "cuda" else []), EventStorage():
            for batch in counted(loader, "Validation loss", shown=comm.is_main_process()):
                torch.manual_seed(count)
                for name, loss in model(batch).items():
                    sums[name] = sums.get(name, 0.0) + loss.item()
                count += 1
    finally:
        for norm in norms:
            norm.train()
        vars(model).pop("loss_normalizer", None)
        vars(model).update(mean)
    everything = comm.gather((sums, count))
    if not comm.is_main_process():
        return {}
    count = sum(number for _, number in everything)
    names = {name for part, _ in everything for name in part}
    means = {name: sum(p.get(name, 0.0) for p, _ in everything) / count for name in sorted(names)}
    return {"validation": {**means, "total_loss": sum(means.values())}}
