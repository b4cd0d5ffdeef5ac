"""Runs the convolutional parts of a detector in another engine; the rest stays detectron2's."""

import threading
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from resnest_d2.compat.openvino import import_openvino

from .cpu.openvino_engine import OpenVINOEngine
from .layers import FusedConv2d, FusedMaskHead


def compile_parts(model: nn.Module, backend: str, *, half: torch.dtype | None = None) -> nn.Module:
    """Runs the convolutional parts in a backend; each is compiled on its first run.

    On the CPU only the ResNeSt is compiled: FPN and heads are wide 3x3 convolutions, for which
    :mod:`resnest_d2.deploy.cpu.winograd` is faster than both backends, and with AVX-512 oneDNN is
    as fast. On a GPU the heads are compiled too.

    Image sizes, batch sizes and numbers of regions may change between calls: these dimensions are
    dynamic in both backends, so that a new size needs no compilation.

    Args:
        model: model optimized for the eager backend, changed in place.
        backend: "inductor" or "openvino".
        half: bfloat16 for OpenVINO's precision; torch's parts have theirs in their weights.

    Raises:
        MissingPackageError: openvino is not installed.
    """
    engine = _openvino(half) if backend == "openvino" else _inductor
    for part in _parts(model):
        part.forward = engine(part)
    return model


def _parts(model: nn.Module) -> Iterable[nn.Module]:
    """Modules with only tensors as inputs and outputs that are worth compiling."""
    if next(model.parameters()).device.type == "cpu":
        return [resnest_of(model)]
    parts = [getattr(model, "backbone", model)]
    if (rpn := getattr(model, "proposal_generator", None)) is not None:
        parts.append(rpn.rpn_head)
    box_head = getattr(getattr(model, "roi_heads", None), "box_head", None)
    if box_head is not None:
        parts += box_head if isinstance(box_head, nn.ModuleList) else [box_head]
    return parts + [m.trunk for m in model.modules() if isinstance(m, FusedMaskHead)]


def resnest_of(model: nn.Module) -> nn.Module:
    """The ResNeSt of a detector, of an FPN, or itself."""
    backbone = getattr(model, "backbone", model)
    return getattr(backbone, "bottom_up", backbone)


def _inductor(part: nn.Module) -> Callable:
    for module in part.modules():
        if isinstance(module, FusedConv2d):
            module.pack = module.on_gpu = False  # the compiler packs and fuses by itself
    return torch.compile(part.forward, dynamic=True, options={"freezing": True})


def _openvino(half: torch.dtype | None) -> Callable[[nn.Module], Callable]:
    openvino = import_openvino()
    return lambda part: _OpenVINO(part, openvino, half=half)


class _Flat(nn.Module):
    """A backbone that returns a tuple, for tracing, and its names."""

    def __init__(self, part: nn.Module):
        super().__init__()
        self.part, self.forward_of_part = part, part.forward

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Returns the backbone's feature maps without their names."""
        outputs = self.forward_of_part(x)
        self.names = list(outputs)
        return tuple(outputs.values())


class _OpenVINO:
    """A backbone in OpenVINO, converted on the first call, for any batch and image size."""

    def __init__(self, part: nn.Module, openvino: Any, *, half: torch.dtype | None):
        self.flat = _Flat(part).eval()
        self.openvino = openvino
        self.hint = "bf16" if half else "f32"
        self.threads = torch.get_num_threads()
        self.engine: OpenVINOEngine | None = None
        self.lock = threading.Lock()

    def __call__(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = x.detach().contiguous()
        with self.lock:
            if self.engine is None:
                self.engine = self._convert(x)
        outputs = [torch.from_numpy(values) for values in self.engine([x.numpy()])]
        return dict(zip(self.flat.names, outputs, strict=True))

    def _convert(self, x: torch.Tensor) -> OpenVINOEngine:
        with torch.no_grad():  # unchecked: outside a trace the convolutions round differently
            traced = torch.jit.trace(self.flat, x, check_trace=False)
            graph = self.openvino.convert_model(traced, example_input=x)
        graph.reshape([-1, x.shape[1], -1, -1])
        return OpenVINOEngine(graph, precision=self.hint, threads=self.threads)
