"""Layers that cast their input to the type of their weights."""

from typing import Any

import torch
from torch import nn


class Casting:
    """Beside a class of torch's: its layer computes in the type of its weights."""

    weight: Any
    bias: Any

    def lower(self, dtype: torch.dtype) -> None:
        """Sets the weights to a type of 16 bits."""
        self.weight.data = self.weight.data.to(dtype)
        if self.bias is not None:
            self.bias.data = self.bias.data.to(dtype)

    def forward(self, x: torch.Tensor, *args: Any) -> torch.Tensor:
        """See the layer's own ``forward``."""
        return super().forward(x.to(self.weight.dtype), *args)  # type: ignore[misc]


class CastingConv2d(Casting, nn.Conv2d):
    """Convolution that casts its input."""


class CastingConvTranspose2d(Casting, nn.ConvTranspose2d):
    """Transposed convolution that casts its input."""


class CastingLinear(Casting, nn.Linear):
    """Linear layer that casts its input."""
