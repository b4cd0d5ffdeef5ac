"""Order of the maps in memory that suits a detector in training on the CPU.

oneDNN computes with a pixel's channels side by side. Maps that are channels_last need not be
reordered before and after each convolution, norm and pooling, which bfloat16 gains most from.
"""

import torch
from torch import nn


def use_channels_last(model: nn.Module) -> nn.Module:
    """Makes the maps of a detector channels_last if it is on the CPU; results equal up to rounding.

    The parameters stay as they are, and with them what checkpoints hold.

    Returns:
        The detector itself, changed in place.
    """
    backbone = getattr(model, "backbone", None)
    if isinstance(backbone, nn.Module) and next(model.parameters()).device.type == "cpu":
        backbone.register_forward_pre_hook(_to_channels_last)  # the rest follows
    return model


def _to_channels_last(_: nn.Module, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    return (args[0].contiguous(memory_format=torch.channels_last),)
