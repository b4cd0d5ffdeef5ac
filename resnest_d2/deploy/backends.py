"""The convolutional parts of a detector, run by another engine; the rest stays detectron2's."""

import threading
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from resnest_d2.errors import MissingPackageError

from .layers import FusedConv2d, FusedMaskHead


def compile_parts(model: nn.Module, backend: str) -> nn.Module:
    """Hand convolutional parts to a backend; each is prepared at its first run.

    On the CPU that is the ResNeSt alone: pyramid and heads are wide 3x3 convolutions, for which
    :mod:`resnest_d2.deploy.cpu.winograd` is faster than both engines, and with AVX-512 oneDNN's own
    as fast. On a GPU the heads follow.

    Image sizes, batches and numbers of regions may differ from call to call: both backends are
    told that these dimensions are dynamic, so that a new size costs no new compilation.

    Args:
        model: of the eager backend, changed in place.
        backend: "inductor" or "openvino".

    Raises:
        MissingPackageError: openvino is not installed.
    """
    engine = _openvino() if backend == "openvino" else _inductor
    for part in _parts(model):
        part.forward = engine(part)
    return model


def _parts(model: nn.Module) -> Iterable[nn.Module]:
    """The modules that take tensors and give tensors, and are worth an engine."""
    backbone = getattr(model, "backbone", model)
    if next(model.parameters()).device.type == "cpu":
        return [getattr(backbone, "bottom_up", backbone)]
    parts = [backbone]
    if (rpn := getattr(model, "proposal_generator", None)) is not None:
        parts.append(rpn.rpn_head)
    box_head = getattr(getattr(model, "roi_heads", None), "box_head", None)
    if box_head is not None:
        parts += box_head if isinstance(box_head, nn.ModuleList) else [box_head]
    return parts + [m.trunk for m in model.modules() if isinstance(m, FusedMaskHead)]


def _inductor(part: nn.Module) -> Callable:
    for module in part.modules():
        if isinstance(module, FusedConv2d):
            module.pack = False  # it packs and fuses by itself
    return torch.compile(part.forward, dynamic=True, options={"freezing": True})


def _openvino() -> Callable[[nn.Module], Callable]:
    try:
        import openvino
    except ImportError as error:
        raise MissingPackageError(
            "The openvino backend needs openvino: pip install 'resnest-d2[openvino]'."
        ) from error
    core = openvino.Core()
    return lambda part: _OpenVINO(part, openvino, core)


class _Flat(nn.Module):
    """A backbone that gives a tuple, for tracing, and knows the names."""

    def __init__(self, part: nn.Module):
        super().__init__()
        self.part, self.forward_of_part = part, part.forward

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """As the backbone's, without the names."""
        outputs = self.forward_of_part(x)
        self.names = list(outputs)
        return tuple(outputs.values())


class _OpenVINO:
    """A backbone in OpenVINO; converted when first called, for any batch and image size."""

    def __init__(self, part: nn.Module, openvino: Any, core: Any):
        self.flat = _Flat(part).eval()
        self.openvino, self.core = openvino, core
        self.compiled: Any = None
        self.lock, self.own = threading.Lock(), threading.local()  # a request serves one thread

    def __call__(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = x.detach().contiguous()
        with self.lock:
            if self.compiled is None:
                self._convert(x)
        if not hasattr(self.own, "request"):
            self.own.request = self.compiled.create_infer_request()
        results = self.own.request.infer([x.numpy()], share_inputs=True, share_outputs=True)
        # The engine's own memory, which its next run overwrites.
        outputs = [torch.from_numpy(results[i]).clone() for i in range(len(results))]
        return dict(zip(self.flat.names, outputs, strict=True))

    def _convert(self, x: torch.Tensor) -> None:
        with torch.no_grad():  # unchecked: outside a trace the convolutions round differently
            traced = torch.jit.trace(self.flat, x, check_trace=False)
            graph = self.openvino.convert_model(traced, example_input=x)
        graph.reshape([-1, x.shape[1], -1, -1])
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        self.compiled = self.core.compile_model(graph, "CPU", options)
