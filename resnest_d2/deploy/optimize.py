"""Optimizes a detector for inference, with the same results."""

import copy
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from detectron2.layers import Conv2d
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads.box_head import FastRCNNConvFCHead
from detectron2.modeling.roi_heads.mask_head import MaskRCNNConvUpsampleHead
from torch import nn

from resnest_d2.config.rules import DEPLOY_BACKENDS as BACKENDS
from resnest_d2.errors import UserError
from resnest_d2.layers import DeformConv2d, SplitAttentionConv2d
from resnest_d2.modeling import CheckpointConvFCHead, DeepStem, ResNeStBottleneck

from . import layers
from .backends import compile_parts, resnest_of
from .cpu.roi_align import replace_poolers
from .precision import HALVES, check_precision, lower

# Modules before their submodules: they decide where the ReLUs of those go.
_FUSED = {
    DeepStem: layers.FusedStem,
    ResNeStBottleneck: layers.FusedBottleneck,
    SplitAttentionConv2d: layers.FusedSplitAttentionConv2d,
    DeformConv2d: layers.FusedDeformConv2d,
    MaskRCNNConvUpsampleHead: layers.FusedMaskHead,
}


def optimize_for_inference(
    model: nn.Module,
    *,
    backend: str = "eager",
    precision: str = "fp32",
    calibration: Sequence[torch.Tensor] = (),
) -> nn.Module:
    """Returns an optimized copy of a detector or backbone for inference, with the same results.

    Norms, ReLUs and sums become part of the convolutions, maps are channels_last, split attention
    is one interpolation, and RoIAlign uses all threads. Other layers are unchanged and listed in
    the log. The process is not affected: on a CPU, :func:`resnest_d2.deploy.keep_freed_memory`
    makes the copy faster still.

    Args:
        model: a GeneralizedRCNN or a backbone, in eval mode, on the device that it will run on.
        backend: "eager" has no requirements; "inductor" compiles convolutional parts by
            torch.compile on their first run (needs a C++ compiler); "openvino" runs them in
            OpenVINO, on the CPU.
        precision: "fp32" (also "auto"), "bf16" or "fp16"; on a GPU by autocast. Maps of a
            backbone have that type, a detector's boxes, scores and masks are float32. "int8"
            quantizes a whole detector, which takes minutes, for OpenVINO on the CPU.
        calibration: for "int8", some hundred images like those that the detector will see,
            (3, H, W), as it gets them.

    Returns:
        The copy, whose ``train()`` raises an error.

    Raises:
        MissingPackageError: openvino, or nncf for "int8", is not installed.
        UserError: an unknown backend or precision, or one that the model's device or processor
            does not have.
        ValueError: the model is in training mode.
    """
    if backend not in BACKENDS:
        raise UserError(f"There is no backend {backend!r}; choose from {BACKENDS}.")
    if model.training:
        raise ValueError("optimize_for_inference takes a model in eval mode: call model.eval().")
    device = next(model.parameters()).device.type
    if backend == "openvino" and device != "cpu":
        raise UserError(f"The openvino backend runs on the CPU; the model is on {device}.")
    precision = check_precision(precision, device=device, backend=backend)
    if precision == "int8":
        from .export.int8 import quantized  # which imports this module

        return quantized(model, calibration)
    half = HALVES.get(precision)
    fast: Any = copy.deepcopy(model).requires_grad_(False)
    fast.train = _Refusal(fast)
    for kind, fused in _FUSED.items():
        for module in _instances(fast, kind):
            module.__class__ = fused
            if hasattr(module, "prepare"):
                module.prepare()
    for module in _instances(fast, Conv2d):
        module.__class__ = layers.FusedConv2d
        module.prepare()
    for kind in (FastRCNNConvFCHead, CheckpointConvFCHead):
        for module in _instances(fast, kind):
            _flatten_channels_last(module)
    for module in fast.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = True
    replace_poolers(fast)
    if half and device == "cpu":
        lower(fast, half, keep=resnest_of(fast) if backend == "openvino" else None)
    elif half:
        fast.forward = torch.autocast(device, dtype=half)(fast.forward)
    if left := sorted({type(m).__name__ for m in fast.modules() if _is_unknown(m)}):
        logging.getLogger(__name__).info(f"Not optimized: {', '.join(left)}.")
    return fast if backend == "eager" else compile_parts(fast, backend, half=half)


class _Refusal:
    """Replaces ``train`` of an optimised model."""

    def __init__(self, model: nn.Module):
        self.model = model

    def __call__(self, mode: bool = True) -> nn.Module:
        if mode:
            raise RuntimeError(
                "This model is optimised for inference and cannot be trained; train the original "
                "model."
            )
        return self.model


def _instances(model: nn.Module, kind: type) -> Iterator[Any]:
    """Modules of exactly this class."""
    return (module for module in list(model.modules()) if type(module) is kind)


def _flatten_channels_last(head: FastRCNNConvFCHead) -> None:
    modules = list(head)
    for flatten, linear in zip(modules, modules[1:], strict=False):
        if isinstance(flatten, nn.Flatten) and isinstance(linear, nn.Linear):
            convs = [m for m in modules if isinstance(m, Conv2d)]
            if convs:  # else the number of channels is unknown
                flatten.__class__ = layers.ChannelsLastFlatten
                layers.reorder_inputs(linear, convs[-1].out_channels)


def _is_unknown(module: nn.Module) -> bool:
    """Whether a module computes something that has no optimized version."""
    if isinstance(module, ROIPooler):
        return True
    norm = getattr(module, "norm", None)
    return isinstance(module, nn.GroupNorm | nn.LayerNorm) or isinstance(norm, nn.GroupNorm)
