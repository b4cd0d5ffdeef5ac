"""Precisions of inference, and the layers of a detector in 16 bits on the CPU.

Every layer converts its input to the type of its own weights. Convolutions and linear layers have
16 bits, and the maps between them, too. What is small, or decides between neighbours, keeps 32: the
first convolution (bfloat16 would move an image's values by up to half of one of their 256 steps),
the last layers (class scores, box deltas, objectness, masks), the attention, the offsets of
deformable convolutions and RoIAlign's sums.
"""

from typing import Any

import torch
from torch import nn

from resnest_d2.config.rules import DEPLOY_PRECISIONS as PRECISIONS
from resnest_d2.errors import UserError

from . import casting, layers
from .cpu.abilities import abilities
from .cpu.upsampling import Upsampling

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_NEEDS = {"bf16": "BF16", "fp16": "FP16"}  # of the processor
_INSTRUCTIONS = {"bf16": "AVX512-BF16 or AMX", "fp16": "AVX512-FP16 or AMX-FP16"}
_FIRST = ("stem.conv1", "stem.conv1_1")  # of ResNet's stem and of the deep one
LAST = ("objectness_logits", "anchor_deltas", "cls_score", "bbox_pred", "predictor")
_CASTING = {
    nn.Conv2d: casting.CastingConv2d,
    nn.ConvTranspose2d: casting.CastingConvTranspose2d,
    Upsampling: casting.CastingConvTranspose2d,
    nn.Linear: casting.CastingLinear,
}


def check_precision(precision: str, *, device: str, backend: str = "eager") -> str:
    """Returns the precision, "fp32" for "auto".

    Args:
        precision: one of :data:`PRECISIONS`.
        device: type of the device, such as "cpu".
        backend: a backend of ``optimize_for_inference``.

    Raises:
        UserError: an unknown precision, or one that the device or the backend does not have, or
            that the processor only emulates, which takes longer than float32.
    """
    if precision not in PRECISIONS:
        raise UserError(f"There is no precision {precision!r}; choose from {PRECISIONS}.")
    if precision == "auto":
        return "fp32"
    if device == "cpu" and precision in HALVES and _NEEDS[precision] not in abilities():
        raise UserError(
            f"The precision {precision} would be slower than fp32 here: the processor has no "
            f"{_INSTRUCTIONS[precision]} and would emulate it. Choose fp32, or int8."
        )
    if backend == "openvino" and precision == "fp16":
        raise UserError("The openvino backend computes in fp32, bf16 or int8, not in fp16.")
    if precision == "int8" and (device != "cpu" or backend == "inductor"):
        raise UserError(
            f"int8 is for OpenVINO on the CPU; the backend is {backend!r} on {device}. Choose fp16 "
            "on a GPU, or the backend openvino."
        )
    return precision


def lower(model: nn.Module, dtype: torch.dtype, *, keep: nn.Module | None = None) -> None:
    """Sets an optimized model's layers to 16 bits, in place.

    Args:
        model: model on the CPU whose layers are already fused.
        dtype: bfloat16 or float16.
        keep: part of the model that stays as it is, because another engine computes it.
    """
    kept = set() if keep is None else set(keep.modules())
    for name, module in list(model.named_modules()):
        if module in kept:
            continue
        cast: Any = _CASTING.get(type(module))
        if cast is not None:
            module.__class__ = cast
        if isinstance(module, casting.Casting) and not _stays_exact(model, name):
            module.lower(dtype)


def _stays_exact(model: nn.Module, name: str) -> bool:
    parent, _, own = name.rpartition(".")
    if own in LAST or own == "conv2_offset" or name.endswith(_FIRST):
        return True
    return own in ("fc1", "fc2") and isinstance(
        model.get_submodule(parent), layers.FusedSplitAttentionConv2d
    )
