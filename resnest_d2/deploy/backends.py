"""The convolutional parts of a detector, run by another engine; the rest stays detectron2's."""

import threading
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from .layers import FusedMaskHead


def compile_parts(model: nn.Module, backend: str) -> nn.Module:
    """Hand the convolutional parts to a backend; each is prepared at its first run.

    They are backbone and RPN head; the box and mask heads too with inductor, not with openvino,
    which runs their small maps slower than oneDNN's fused operations do.

    Picture sizes, batches and numbers of regions may differ from call to call: both backends are
    told that these dimensions are dynamic, so that a new size costs no new compilation.

    Args:
        model: of the eager backend, changed in place.
        backend: "inductor" or "openvino".

    Raises:
        ImportError: openvino is not installed.
    """
    engine = _openvino() if backend == "openvino" else _inductor
    for part in _parts(model, heads=backend != "openvino"):
        part.forward = engine(part)
    return model


def _parts(model: nn.Module, *, heads: bool) -> Iterable[nn.Module]:
    """The modules that take tensors and give tensors, and are worth an engine."""
    if not hasattr(model, "backbone"):
        return [model]
    parts = [model.backbone]
    if (rpn := getattr(model, "proposal_generator", None)) is not None:
        parts.append(rpn.rpn_head)
    if not heads:
        return parts
    box_head = getattr(getattr(model, "roi_heads", None), "box_head", None)
    if box_head is not None:
        parts += box_head if isinstance(box_head, nn.ModuleList) else [box_head]
    return parts + [m.trunk for m in model.modules() if isinstance(m, FusedMaskHead)]


def _inductor(part: nn.Module) -> Callable:
    return torch.compile(part.forward, dynamic=True, options={"freezing": True})


def _openvino() -> Callable[[nn.Module], Callable]:
    try:
        import openvino
    except ImportError as error:
        raise ImportError(
            "The openvino backend needs openvino: pip install 'resnest-d2[openvino]'."
        ) from error
    core = openvino.Core()
    return lambda part: _OpenVINO(part, openvino, core)


class _Flat(nn.Module):
    """A part whose inputs and outputs are plain tensors, for tracing."""

    def __init__(self, part: nn.Module, forward: Callable, takes_list: bool):
        super().__init__()
        self.part, self.takes_list = part, takes_list
        self._forward = forward
        self.rebuild: Callable[[list], Any] = lambda outputs: outputs

    def forward(self, *inputs: torch.Tensor):
        """Tensors in, tensors out; notes how the part's own result is made of them."""
        result = self._forward(list(inputs) if self.takes_list else inputs[0])
        if isinstance(result, torch.Tensor):
            self.rebuild = lambda outputs: outputs[0]
            return result
        if isinstance(result, dict):
            names = list(result)
            self.rebuild = lambda outputs: dict(zip(names, outputs, strict=True))
            return tuple(result.values())
        first, second = result  # the RPN head's two lists
        self.rebuild = lambda outputs: (outputs[: len(first)], outputs[len(first) :])
        return (*first, *second)


class _OpenVINO:
    """A part in OpenVINO; converted when first called, for any batch and picture size."""

    def __init__(self, part: nn.Module, openvino: Any, core: Any):
        self.part, self.forward = part, part.forward
        self.openvino, self.core = openvino, core
        self.compiled = None
        self.lock, self.own = threading.Lock(), threading.local()  # a request serves one thread

    def __call__(self, inputs: torch.Tensor | list[torch.Tensor]) -> Any:
        tensors = inputs if isinstance(inputs, list | tuple) else [inputs]
        with self.lock:
            if self.compiled is None:
                self._convert(tensors, isinstance(inputs, list | tuple))
        if not hasattr(self.own, "request"):
            self.own.request = self.compiled.create_infer_request()
        arrays = [t.detach().contiguous().numpy() for t in tensors]
        results = self.own.request.infer(arrays, share_inputs=True, share_outputs=True)
        # The engine's own memory, which its next run overwrites.
        outputs = [torch.from_numpy(results[i]).clone() for i in range(len(results))]
        return self.flat.rebuild(outputs)

    def _convert(self, tensors: list[torch.Tensor], takes_list: bool) -> None:
        self.flat = _Flat(self.part, self.forward, takes_list).eval()
        tensors = tuple(t.detach().contiguous() for t in tensors)
        with torch.no_grad():
            graph = self.openvino.convert_model(self.flat, example_input=tensors)
        graph.reshape({i: [-1, t.shape[1], -1, -1] for i, t in enumerate(tensors)})
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        self.compiled = self.core.compile_model(graph, "CPU", options)
