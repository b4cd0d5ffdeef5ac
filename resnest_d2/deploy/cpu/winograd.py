"""3x3 convolutions with a quarter of the multiplications.

Winograd's minimal filtering F(4x4, 3x3), https://arxiv.org/abs/1509.09308, Sec. 4: a tile of 4x4
outputs from 6x6 inputs takes 36 multiplications per pair of channels instead of 144. As with
products of polynomials, values at five points and at infinity are multiplied. Rounding errors are
1.5e-6 to 3.1e-6 of the largest output, by the order in which a matrix product sums: about those of
a plain convolution that sums in one run, as with AVX2, and six to thirteen times those of one that
sums in blocks, as with AVX-512.

Shapes: N batch, C input and O output channels of a group, H, W of the map, T tiles.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

_OUT, _IN = 4, 6  # sides of an output and an input tile
_POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)  # half the rounding error of the paper's 0, 1, -1, 2, -2
_PIECE = 2**17  # tiles times channels processed at a time, whose values take 19 MB
_MIN_CHANNELS = 128  # per group; with fewer the transforms take the time that the product saves
_MAX_WASTE = 1.6  # outputs of the tiles relative to those of the map


def suits(conv: nn.Conv2d) -> bool:
    """Whether this method can compute a convolution, and is faster on this processor.

    With AVX-512 it is not: oneDNN's plain convolutions are twice as fast as with AVX2, so that the
    transforms take all of the time saved.
    """
    return (
        torch.backends.cpu.get_cpu_capability() != "AVX512"
        and conv.kernel_size == (3, 3)
        and conv.stride == conv.dilation == conv.padding == (1, 1)
        and conv.padding_mode == "zeros"
        and min(conv.in_channels, conv.out_channels) >= _MIN_CHANNELS * conv.groups
    )


def fits(x: torch.Tensor) -> bool:
    """Whether tiles cover a map (N, C, H, W) without too much wasted computation."""
    height, width = x.shape[2:]
    covered = -(-height // _OUT) * -(-width // _OUT) * _OUT**2
    return covered <= _MAX_WASTE * height * width


def transform_kernels(weight: torch.Tensor, groups: int) -> torch.Tensor:
    """Transforms kernels (groups O, C, 3, 3) to values at all points, (groups, 36, C, O)."""
    g = _matrices()[2]
    values = torch.einsum("ai,ocij,bj->aboc", g, weight.double(), g).flatten(0, 1)
    return values.unflatten(1, (groups, -1)).permute(1, 0, 3, 2).to(weight.dtype).contiguous()


def convolve(
    x: torch.Tensor, kernels: torch.Tensor, bias: torch.Tensor | None, *, relu: bool
) -> torch.Tensor:
    """3x3 convolution of stride 1 and padding 1, with an optional ReLU.

    Args:
        x: (N, groups C, H, W), fastest if channels_last.
        kernels: result of :func:`transform_kernels`.
        bias: (groups O,).
        relu: apply a ReLU to the output.

    Returns:
        (N, groups O, H, W), channels_last.
    """
    n, _, height, width = x.shape
    groups, _, c, o = kernels.shape
    rows, columns = -(-height // _OUT), -(-width // _OUT)
    after = (0, 0, 1, columns * _OUT + 1 - width, 1, rows * _OUT + 1 - height)
    padded = F.pad(x.permute(0, 2, 3, 1), after)  # (N, H', W', groups C)
    s = padded.stride()
    tiles = padded.as_strided(
        (_IN, _IN, n, rows, columns, groups * c), (s[1], s[2], s[0], _OUT * s[1], _OUT * s[2], s[3])
    )
    a, b = (torch.kron(m, m).to(x.dtype) for m in _matrices()[:2])
    out = x.new_empty(n, rows, _OUT, columns, _OUT, groups * o)
    for images, lines in _pieces(n, rows, columns, channels=max(c, o)):
        for k in range(groups):
            inputs = tiles[:, :, images, lines, :, k * c : (k + 1) * c]
            values = b @ inputs.reshape(_IN**2, -1)  # (36, T C)
            products = values.view(_IN**2, -1, c) @ kernels[k]  # (36, T, O)
            if bias is not None:  # the value at (1, 1) is added to every output, with weight 1
                products[_IN + 1] += bias[k * o : (k + 1) * o]
            outputs = a @ products.view(_IN**2, -1)  # (16, T O)
            if relu:
                outputs.relu_()
            outputs = outputs.view(_OUT, _OUT, *inputs.shape[2:5], o).permute(2, 3, 0, 4, 1, 5)
            out[images, lines, ..., k * o : (k + 1) * o] = outputs
    out = out.view(n, rows * _OUT, columns * _OUT, groups * o)[:, :height, :width]
    return out.permute(0, 3, 1, 2)


@lru_cache(maxsize=1)
def _matrices() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A' (4, 6), B' (6, 6) and G (6, 3) of y = A' ((G g G') * (B' x B)) A, the paper's names."""
    points = np.array(_POINTS)
    others = [np.delete(points, i) for i in range(len(points))]
    scale = [np.prod(p - o) for p, o in zip(points, others, strict=True)]
    infinity = np.eye(_IN)[-1]
    a = np.vander(points, _OUT, increasing=True)
    g = np.vander(points, 3, increasing=True) / np.array(scale)[:, None]
    rows = [[*np.poly(o)[::-1], 0.0] for o in others]
    a = np.vstack([a, infinity[-_OUT:]]).T
    b = np.vstack([*rows, np.poly(points)[::-1]])
    g = np.vstack([g, infinity[-3:]])
    return _tensor(a), _tensor(b), _tensor(g)


def _tensor(matrix: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(matrix))


def _pieces(n: int, rows: int, columns: int, *, channels: int) -> Iterator[tuple[slice, slice]]:
    """Splits a batch into pieces to process at a time: several images, or rows of tiles of one."""
    limit = _PIECE // channels  # tiles
    images = max(1, limit // (rows * columns))
    height = max(1, min(rows, limit // columns))
    for i in range(0, n, images):
        for j in range(0, rows, height):
            yield slice(i, i + images), slice(j, j + height)
