"""Activation checkpointing: recomputes a block in the backward pass to save memory.

Paper: https://arxiv.org/abs/1604.06174; based on :mod:`torch.utils.checkpoint`. Only the first
computation updates the running statistics of batch norms.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn
from torch.utils import checkpoint as torch_checkpoint

from resnest_d2.config.backbone import activation_checkpoint_fault
from resnest_d2.config.rules import ACTIVATION_CHECKPOINTS
from resnest_d2.errors import UserError
from resnest_d2.layers import BATCH_NORMS


def check_activation_checkpoint(mode: str, *, norm: str) -> None:
    """Checks that a mode of activation checkpointing is possible.

    Args:
        mode: one of :data:`resnest_d2.config.rules.ACTIVATION_CHECKPOINTS`.
        norm: name of the block's norms.

    Raises:
        UserError: the mode is unknown, or it is "light" with norms for which it saves no memory or
            with a torch that does not support it.
    """
    if mode not in ACTIVATION_CHECKPOINTS:
        raise UserError(
            f"MODEL.RESNETS.ACTIVATION_CHECKPOINT is {mode!r}; choose from "
            f"{ACTIVATION_CHECKPOINTS}."
        )
    if fault := activation_checkpoint_fault(mode, norm):
        raise UserError(fault)


def gains(mode: str, *, norm: str) -> bool:
    """Whether a mode saves memory. "light" does not if training needs no convolution's output."""
    return mode != "light" or norm not in ("", "FrozenBN")


def recompute(block: nn.Module, function: Callable, x: torch.Tensor, *, mode: str) -> torch.Tensor:
    """Computes ``function(x)`` and recomputes it in the backward pass.

    Args:
        block: module with the batch norms that ``function`` runs.
        function: method of ``block`` that uses no random numbers.
        x: input of ``function``. It is kept for the backward pass.
        mode: "block" keeps only ``x``; "light" also keeps the outputs of the convolutions, so only
            cheap operations are recomputed.

    Returns:
        The result of ``function``.
    """

    def contexts() -> tuple[AbstractContextManager, AbstractContextManager]:
        if mode == "block":
            return nullcontext(), _statistics_kept(block, nullcontext())
        first, again = torch_checkpoint.create_selective_checkpoint_contexts(
            [torch.ops.aten.convolution.default, torch.ops.torchvision.deform_conv2d.default]
        )
        return first, _statistics_kept(block, again)

    return torch_checkpoint.checkpoint(
        function, x, use_reentrant=False, preserve_rng_state=False, context_fn=contexts
    )


def wants_recomputing(block: nn.Module, x: torch.Tensor) -> bool:
    """Whether there will be a backward pass through the block."""
    if not (block.training and torch.is_grad_enabled()) or torch.jit.is_tracing():
        return False
    return x.requires_grad or any(p.requires_grad for p in block.parameters())


@contextmanager
def _statistics_kept(block: nn.Module, inner: AbstractContextManager) -> Iterator[None]:
    """Batch norms normalise as before, but do not count the batch a second time."""
    norms = [m for m in block.modules() if isinstance(m, BATCH_NORMS)]
    before = [(m.momentum, m.num_batches_tracked) for m in norms]
    for m in norms:
        # Without track_running_stats torch would save fewer tensors than the first time.
        m.momentum = 0.0
        if m.num_batches_tracked is not None:
            m.num_batches_tracked = m.num_batches_tracked.clone()
    try:
        with inner:
            yield
    finally:
        for m, (momentum, batches) in zip(norms, before, strict=True):
            m.momentum, m.num_batches_tracked = momentum, batches
