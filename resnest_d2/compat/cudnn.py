"""The seam to cuDNN's fused convolution, which torch has without documenting it."""

import functools
import logging

import torch
import torch.nn.functional as F

from .pytorch import Where, is_out_of_memory

_REFUSED: set[tuple] = set()  # calls for which cuDNN has no fused kernel


@functools.cache
def has_cudnn_fusion() -> bool:
    """Whether torch has cuDNN's fused convolution and it computes what the plain one does."""
    if not (torch.cuda.is_available() and torch.backends.cudnn.is_available()):
        return False
    with torch.no_grad(), torch.autocast("cuda", enabled=False):
        x = torch.linspace(-1, 1, 2 * 16 * 25, device="cuda", dtype=torch.float16)
        x = x.view(2, 16, 5, 5).contiguous(memory_format=torch.channels_last)
        weight = torch.linspace(1, -1, 16 * 16, device="cuda", dtype=torch.float16)
        weight = weight.view(16, 16, 1, 1).contiguous(memory_format=torch.channels_last)
        bias = torch.linspace(-1, 1, 16, device="cuda", dtype=torch.float16)
        where: Where = ([0, 0], [1, 1], [1, 1], 1)
        plain = F.conv2d(x, weight, bias)
        try:
            pairs = [
                (_cudnn_convolve(x, weight, bias, where, None), plain.relu()),
                (_cudnn_convolve(x, weight, bias, where, x), (plain + x).relu()),
            ]
            right = all(torch.allclose(ours, theirs, atol=0.05) for ours, theirs in pairs)
        except (AttributeError, RuntimeError, TypeError, ValueError) as error:
            logging.getLogger(__name__).info(f"cuDNN's fused convolution does not run: {error}")
            return False
    if not right:
        logging.getLogger(__name__).warning("cuDNN's fused convolution is wrong here: not used.")
    return right


def cudnn_convolve(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    where: Where,
    *,
    residual: torch.Tensor | None = None,
) -> torch.Tensor | None:
    """Convolution, sum and ReLU in one kernel, without a backward pass.

    Args:
        x: the input.
        weight: of the convolution, of the input's type.
        bias: of the convolution, of that type.
        where: its padding, stride, dilation and groups.
        residual: added before the ReLU.

    Returns:
        The output; None where there is no such kernel, as for float64.
    """
    if not torch.backends.cudnn.enabled or x.dtype == torch.float64 or not has_cudnn_fusion():
        return None
    call = (x.dtype, x.shape, weight.shape, str(where), residual is None)
    if call in _REFUSED:
        return None
    try:
        return _cudnn_convolve(x, weight, bias, where, residual)
    except RuntimeError as error:
        if is_out_of_memory(error) or "engine" not in str(error):  # cuDNN's word for its kernels
            raise
        _REFUSED.add(call)
        return None


def _cudnn_convolve(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    where: Where,
    residual: torch.Tensor | None,
) -> torch.Tensor:
    padding, stride, dilation, groups = where
    options = (bias, stride, padding, dilation, groups)
    if residual is None:
        return torch.cudnn_convolution_relu(x, weight, *options)
    return torch.cudnn_convolution_add_relu(x, weight, residual, 1.0, *options)
