"""Norms for cases that detectron2's do not support: 1x1 maps, and synchronization without CUDA.

The attention of a ResNeSt block normalizes a vector (a 1x1 map). In training, a batch norm may then
see a single value per channel, and a group norm with one channel per group returns a constant.
"""

import logging

import torch
import torch.distributed as dist
import torch.nn.functional as F
from detectron2.layers import NaiveSyncBatchNorm, get_norm
from torch import nn

from .sync_norm import GlooSyncBatchNorm

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_SYNCED = (nn.SyncBatchNorm, NaiveSyncBatchNorm, GlooSyncBatchNorm)
_warned: set[str] = set()


def _warn_once(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        logging.getLogger(__name__).warning(message)


def get_attention_norm(norm: str, channels: int, *, groups: int = 1) -> nn.Module | None:
    """Creates the norm of the attention's hidden vector.

    detectron2's ``GN`` has 32 groups. On a 1x1 map of 32 channels each group has a single value, so
    its output is the bias for every image and the attention cannot learn. Here ``GN`` normalizes
    over all channels of a cardinal group instead. All other norms are detectron2's.

    Args:
        norm: name of the norm, as in :func:`detectron2.layers.get_norm`, or "".
        channels: length of the vector.
        groups: cardinality.

    Returns:
        The module, or None for "".
    """
    if norm == "GN":
        return nn.GroupNorm(groups, channels)
    return get_norm(norm, channels)


def norm_of_vector(norm: nn.Module | None, x: torch.Tensor) -> torch.Tensor:
    """Applies a norm to (N, C, 1, 1) vectors, also a batch norm in training with N = 1.

    A single value per channel has no variance, and torch raises an error. Such a call uses the
    running statistics without updating them, and logs a warning once. Norms that synchronize over
    several processes see more than one value, so this does not apply to them.
    """
    if norm is None:
        return x
    if isinstance(norm, BATCH_NORMS) and norm.training:
        synced = isinstance(norm, _SYNCED) and dist.is_available() and dist.is_initialized()
        if x.shape[0] == 1 and not (synced and dist.get_world_size() > 1):
            _warn_once(
                "Split attention: a batch norm got a batch of one image in training, which has no "
                "variance; its running statistics are used for such batches. Train with at least "
                "two images per process, SyncBN over several processes, or NORM 'FrozenBN' or 'GN'."
            )
            return F.batch_norm(
                x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps
            )
    return norm(x)


def adapt_sync_norms(module: nn.Module) -> nn.Module:
    """Replaces torch's SyncBatchNorm if the process group cannot run it.

    With a process group, torch's SyncBatchNorm needs a GPU backend. In a gloo group (CPU) it is
    replaced by :class:`GlooSyncBatchNorm`, which has the same parameters and computes the same.
    Without a group it acts as a plain batch norm on every device and is kept.

    Returns:
        The module itself, changed in place, or its replacement if it is such a norm.
    """
    if not (dist.is_available() and dist.is_initialized()) or "nccl" in dist.get_backend():
        return module
    if isinstance(module, nn.SyncBatchNorm):
        return GlooSyncBatchNorm.in_place_of(module)
    for name, child in module.named_children():
        replacement = adapt_sync_norms(child)
        if replacement is not child:
            setattr(module, name, replacement)
    return module
