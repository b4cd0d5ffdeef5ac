"""Pooling and weighted sum of split attention, with custom backward passes.

Paper: https://arxiv.org/abs/2004.08955, Sec. 3, eq. (2). As a product and a sum, it would read and
write the R C channels twice. For R = 2 the weights are a and 1 - a, so it is a single linear
interpolation. Autograd would compute its gradients from zero-filled copies of each channel slice,
which the custom backward pass avoids. The gradient of the pooling is the same at every pixel: as an
expanded vector it takes no memory and is added to the other one in that one's order, while autograd
would write it as a contiguous map.

Shapes: N batch, C output channels, H/W height and width, R radix.
"""

from typing import Any

import torch
from detectron2.layers.wrappers import check_if_dynamo_compiling


def weighted_sum(x: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
    """Sums the splits, each multiplied by its attention.

    Args:
        x: (N, R C, H, W), split after split.
        attention: (N, R, C, 1, 1); sums to one over R if R = 2. It is cast to the type of ``x``,
            which is narrower under autocast.

    Returns:
        (N, C, H, W).
    """
    attention = attention.to(x.dtype)
    wants_grad = torch.is_grad_enabled() and (x.requires_grad or attention.requires_grad)
    if wants_grad and not torch.jit.is_tracing() and not check_if_dynamo_compiling():
        return _WeightedSum.apply(x, attention)
    return _compute(x, attention)  # tracers and compilers need plain operators


def pool_splits(splits: torch.Tensor) -> torch.Tensor:
    """Sums the means of the splits, which the attention is computed from.

    Args:
        splits: (N, R, C, H, W).

    Returns:
        (N, C, 1, 1).
    """
    wants_grad = torch.is_grad_enabled() and splits.requires_grad
    if wants_grad and not torch.jit.is_tracing() and not check_if_dynamo_compiling():
        means = _Mean.apply(splits)
    else:
        means = splits.mean((3, 4))
    return means.sum(1)[:, :, None, None]


def _compute(x: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
    first, *others = x.chunk(attention.shape[1], 1)  # R times (N, C, H, W)
    if len(others) == 1:
        return torch.lerp(first, others[0], attention[:, 1])
    out = first * attention[:, 0]
    for r, split in enumerate(others, 1):
        out.addcmul_(split, attention[:, r])
    return out


class _Mean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, splits: torch.Tensor) -> torch.Tensor:
        ctx.shape = splits.shape
        return splits.mean((3, 4))

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        pixels = ctx.shape[3] * ctx.shape[4]
        return (grad / pixels)[..., None, None].expand(ctx.shape)


class _WeightedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, attention)
        return _compute(x, attention)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x, attention = ctx.saved_tensors
        splits = x.unflatten(1, attention.shape[1:3])  # (N, R, C, H, W)
        grad = grad.unsqueeze(1)  # (N, 1, C, H, W)
        if torch.is_grad_enabled():  # for second derivatives
            grad_attention = (grad * splits).sum((3, 4), keepdim=True)
            return (grad * attention).flatten(1, 2), grad_attention
        grad_x = torch.empty_like(x)
        out = grad_x.unflatten(1, attention.shape[1:3])  # the same memory, (N, R, C, H, W)
        torch.mul(grad, splits, out=out)  # overwritten below
        grad_attention = out.sum((3, 4), keepdim=True)
        torch.mul(grad, attention, out=out)
        return grad_x, grad_attention
