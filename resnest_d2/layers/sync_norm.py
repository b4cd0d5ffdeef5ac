"""Synchronized batch norm for process groups on CPUs.

Its results are those of a batch norm in one process on the whole batch, also with different numbers
of values in the processes, none included. As in torch's BatchNorm and SyncBatchNorm, values are
normalized by the biased variance, and ``running_var`` averages the unbiased one (Ioffe and Szegedy,
https://arxiv.org/abs/1502.03167, Sec. 3.1). detectron2's NaiveSyncBatchNorm averages the biased
variance, and weighs all processes the same; torch's SyncBatchNorm computes on GPUs only.

Shapes: N batch, C channels, ... any further dimensions; P processes.
"""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn


class GlooSyncBatchNorm(nn.BatchNorm2d):
    """torch's SyncBatchNorm on CPUs; DDP refuses a subclass of that on a CPU.

    All processes of a group must call it together. Where they have fewer than two values for each
    channel, which have no variance, it uses the running statistics and does not update them.
    """

    process_group: Any = None

    @classmethod
    def in_place_of(cls, norm: nn.SyncBatchNorm) -> "GlooSyncBatchNorm":
        """Creates one with the same parameters and buffers (not copies) as another norm."""
        new = cls(
            norm.num_features,
            eps=norm.eps,
            momentum=norm.momentum,
            affine=norm.affine,
            track_running_stats=norm.track_running_stats,
        )
        new.process_group = norm.process_group
        for name, value in (*norm.named_parameters(), *norm.named_buffers()):
            setattr(new, name, value)
        return new.train(norm.training)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalizes a map.

        Args:
            x: input, (N, C, ...).
        """
        running = (self.running_mean, self.running_var)
        tracks = self.running_mean is not None
        if tracks and not self.training:
            return F.batch_norm(x, *running, self.weight, self.bias, False, 0.0, self.eps)
        mean, var, count = _statistics(x, self.process_group)
        if tracks and count < 2:
            return F.batch_norm(x, *running, self.weight, self.bias, False, 0.0, self.eps)
        if tracks:
            self._update(mean, var * (count / (count - 1)))
        settings = (self.eps, count, self.process_group)
        return _Normalize.apply(_exact(x), mean, var, self.weight, self.bias, settings).to(x.dtype)

    @torch.no_grad()
    def _update(self, mean: torch.Tensor, unbiased_var: torch.Tensor) -> None:
        """Moves the running statistics towards those of a batch, as torch's batch norms do."""
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        momentum = self.momentum
        if momentum is None:  # the average of all batches
            momentum = 1 / float(self.num_batches_tracked or 1)
        for running, value in ((self.running_mean, mean), (self.running_var, unbiased_var)):
            if running is not None:
                running.mul_(1 - momentum).add_(value, alpha=momentum)


@torch.no_grad()
def _statistics(x: torch.Tensor, group: Any) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Mean and biased variance of each channel (C), and number of values, over all processes."""
    channels, values = x.shape[1], x.numel() // x.shape[1]
    own = torch.zeros(2 * channels + 1, dtype=torch.float64)  # count, means, variances
    if values:
        dims = [0, *range(2, x.dim())]
        own[0] = values
        own[1:] = torch.cat(torch.var_mean(_exact(x), dims, correction=0)[::-1]).cpu()
    gathered = [torch.empty_like(own) for _ in range(dist.get_world_size(group))]
    dist.all_gather(gathered, own, group=group)
    counts, means, variances = torch.stack(gathered).split((1, channels, channels), dim=1)
    count = int(counts.sum())
    weights = counts / max(count, 1)  # (P, 1)
    mean = (weights * means).sum(0)
    # Of squares around the common mean; a difference of squares would lose digits.
    var = (weights * (variances + (means - mean) ** 2)).sum(0)
    dtype = _exact(x).dtype
    return mean.to(x.device, dtype), var.to(x.device, dtype), count


class _Normalize(torch.autograd.Function):
    """Batch norm by given statistics, which depend on the values of all processes."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        mean: torch.Tensor,
        var: torch.Tensor,
        weight: torch.Tensor | None,
        bias: torch.Tensor | None,
        settings: tuple[float, int, Any],
    ) -> torch.Tensor:
        """See the class; ``settings``: eps, number of values in all processes, their group."""
        ctx.save_for_backward(x, mean, torch.rsqrt(var + settings[0]), weight)
        ctx.settings = settings
        return F.batch_norm(x, mean, var, weight, bias, False, 0.0, settings[0])

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of Ioffe and Szegedy, Sec. 3; of weight and bias those of this process."""
        x, mean, scale, weight = ctx.saved_tensors
        _, count, group = ctx.settings
        normal = (x - _as_map(mean, x)) * _as_map(scale, x)
        dims = [0, *range(2, x.dim())]
        own = [g.sum(dims, dtype=torch.float64).cpu() for g in (grad, grad * normal)]
        sums = torch.cat(own)
        dist.all_reduce(sums, group=group)
        means = (sums / max(count, 1)).to(x.device, x.dtype)
        of_grad, of_product = (_as_map(m, x) for m in means.chunk(2))
        scale = scale if weight is None else scale * weight
        x_grad = _as_map(scale, x) * (grad - of_grad - normal * of_product)
        bias_grad, weight_grad = (None if weight is None else g.to(weight) for g in own)
        return x_grad, None, None, weight_grad, bias_grad, None


def _exact(x: torch.Tensor) -> torch.Tensor:
    """In float32 at least: half precision has too few digits for sums."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _as_map(vector: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """A vector (C) that broadcasts over a map (N, C, ...)."""
    return vector.view(-1, *[1] * (x.dim() - 2))
