"""Norms where detectron2's own would fail: on 1x1 maps, and synchronised without CUDA.

The attention of a ResNeSt block normalises a vector (a 1x1 map). There a batch norm in training
may see a single value per channel, and a group norm of one channel a group gives a constant.
"""

import logging

import torch
import torch.distributed as dist
import torch.nn.functional as F
from detectron2.layers import NaiveSyncBatchNorm, get_norm
from torch import nn

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_SYNCED = (nn.SyncBatchNorm, NaiveSyncBatchNorm)
_warned: set[str] = set()


def _warn_once(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        logging.getLogger(__name__).warning(message)


def get_attention_norm(norm: str, channels: int, *, groups: int = 1) -> nn.Module | None:
    """Norm of the attention's hidden vector.

    detectron2's ``GN`` has 32 groups: on a 1x1 map of 32 channels each group holds one value, its
    output is the bias whatever the image, and the attention learns nothing. Here ``GN``
    normalises over all channels of a cardinal group instead; every other norm is detectron2's.

    Args:
        norm: a name that :func:`detectron2.layers.get_norm` knows, or "".
        channels: length of the vector.
        groups: cardinality.

    Returns:
        The module, or None for "".
    """
    if norm == "GN":
        return nn.GroupNorm(groups, channels)
    return get_norm(norm, channels)


def norm_of_vector(norm: nn.Module | None, x: torch.Tensor) -> torch.Tensor:
    """Apply a norm to (N, C, 1, 1) vectors; batch norms also in training with N = 1.

    One value per channel has no variance, so that torch refuses it. For such a call the running
    statistics stand in, and they are left unchanged; this is logged once. Norms that synchronise
    over several processes see more than one value and are not concerned.
    """
    if norm is None:
        return x
    if isinstance(norm, BATCH_NORMS) and norm.training:
        synced = isinstance(norm, _SYNCED) and dist.is_available() and dist.is_initialized()
        if x.shape[0] == 1 and not (synced and dist.get_world_size() > 1):
            _warn_once(
                "Split attention: batch norm got a batch of one image in training, which has no "
                "variance; its running statistics are used for such batches. Train with two "
                "images a process, SyncBN over several processes, or NORM 'FrozenBN' or 'GN'."
            )
            return F.batch_norm(
                x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps
            )
    return norm(x)


def adapt_sync_norms(module: nn.Module) -> nn.Module:
    """Replace torch's SyncBatchNorm where the process group cannot run it.

    torch's needs a GPU backend as soon as there is a process group; in a gloo group (CPU)
    detectron2's naive one computes the same statistics. Without a group torch's acts as a plain
    batch norm on every device, and stays.

    Returns:
        The module itself, changed in place, or its replacement if it is such a norm.
    """
    if not (dist.is_available() and dist.is_initialized()) or "nccl" in dist.get_backend():
        return module
    if isinstance(module, nn.SyncBatchNorm):
        naive = NaiveSyncBatchNorm(module.num_features, eps=module.eps, momentum=module.momentum)
        naive.load_state_dict(module.state_dict())
        return naive.train(module.training)
    for name, child in module.named_children():
        replacement = adapt_sync_norms(child)
        if replacement is not child:
            setattr(module, name, replacement)
    return module
