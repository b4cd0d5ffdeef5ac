"""Ways to run a model on a GPU, as tables: layout, precision, torch.compile, CUDA graphs."""

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from unittest import mock

import torch
from torch import nn

from resnest_d2.deploy import optimize_for_inference
from resnest_d2.errors import UserError
from resnest_d2.layers import split_attention

from .measure import Skipped
from .training import losses_of, published_sum

DTYPES = {"fp32": torch.float32, "tf32": torch.float32}
DTYPES |= {"fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Form:
    """A way to run a model.

    Attributes:
        name: name in the tables and of ``--forms``.
        precision: "fp32", "tf32", or "fp16" and "bf16" by autocast.
        channels_last: layout of weights and inputs.
        backend: "plain", or a backend of ``optimize_for_inference``.
        mode: mode of ``torch.compile``, for fixed sizes; None does not compile.
        graph: record the kernels of a run as a CUDA graph, and replay it.
        published: compute the weighted sum of split attention as the authors' code does.
    """

    name: str
    precision: str = "fp32"
    channels_last: bool = False
    backend: str = "plain"
    mode: str | None = None
    graph: bool = False
    published: bool = False


PEERS = (
    Form("plain"),
    Form("TF32", "tf32"),
    Form("fp16 channels_last", "fp16", True),
)
DETECTOR = (
    Form("plain"),
    Form("channels_last", channels_last=True),
    Form("TF32", "tf32"),
    Form("TF32 channels_last", "tf32", True),
    Form("fp16", "fp16"),
    Form("fp16 channels_last", "fp16", True),
    Form("eager", backend="eager"),
    Form("eager TF32", "tf32", backend="eager"),
    Form("eager fp16", "fp16", backend="eager"),
    Form("inductor TF32", "tf32", backend="inductor"),
    Form("inductor fp16", "fp16", backend="inductor"),
)
BACKBONE = (  # sizes are fixed here
    *DETECTOR,
    Form("compiled TF32", "tf32", mode="default"),
    Form("compiled fp16", "fp16", True, mode="default"),
    Form("compiled fp16 graphs", "fp16", True, mode="reduce-overhead"),
    Form("TF32 graph", "tf32", graph=True),
    Form("eager fp16 graph", "fp16", backend="eager", graph=True),
)
TRAINING = (
    Form("fp32"),
    Form("TF32", "tf32"),
    Form("TF32 channels_last", "tf32", True),
    Form("fp16", "fp16"),
    Form("fp16 channels_last", "fp16", True),
    Form("bf16", "bf16"),
    Form("TF32 published attention", "tf32", published=True),
    Form("fp16 published attention", "fp16", published=True),
)
FORMS = sorted({form.name for form in (*BACKBONE, *TRAINING)})


def inference(model: nn.Module, inputs: object, form: Form, *, device: str) -> Callable:
    """A function that runs a copy of a model in one form, without gradients.

    Raises:
        Skipped: CUDA graphs on another device.
    """
    if form.graph and device != "cuda":
        raise Skipped("CUDA graphs need a CUDA GPU")
    half = form.precision in ("fp16", "bf16")
    if form.backend == "plain":
        model = copy.deepcopy(model)
        if form.channels_last:
            model = model.to(memory_format=torch.channels_last)
            if isinstance(inputs, torch.Tensor):
                inputs = inputs.contiguous(memory_format=torch.channels_last)
        cast = partial(torch.autocast, device, DTYPES[form.precision], enabled=half)
    else:
        model, cast = _optimized(model, form), contextlib.nullcontext
    if form.mode:
        model = torch.compile(model, mode=form.mode, dynamic=False)

    @torch.no_grad()
    def run() -> object:
        with cast():
            return model(inputs)

    return _Replayed(run) if form.graph else run


def _optimized(model: nn.Module, form: Form) -> nn.Module:
    return optimize_for_inference(
        model, backend=form.backend, precision="fp16" if form.precision == "fp16" else "fp32"
    )


def training_step(model: nn.Module, inputs: list[dict], form: Form, *, device: str) -> Callable:
    """A function that computes losses and gradients of a batch."""
    losses, half = losses_of(model, inputs), form.precision in ("fp16", "bf16")

    def run() -> None:
        with contextlib.ExitStack() as stack:
            if form.published:
                stack.enter_context(
                    mock.patch.object(split_attention, "weighted_sum", published_sum)
                )
            with torch.autocast(device, DTYPES[form.precision], enabled=half):
                loss = losses()
            loss.backward()

    return run


class _Replayed:
    """A run whose kernels are recorded on its first call, and replayed from then on."""

    def __init__(self, run: Callable[[], object]):
        self.run, self.graph = run, None

    def __call__(self) -> object:
        if self.graph is None:
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(3):  # libraries choose and load their kernels
                    self.run()
            torch.cuda.current_stream().wait_stream(side)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.output = self.run()
        self.graph.replay()
        return self.output


def set_tf32(enabled: bool) -> None:
    """Lets matrix products and convolutions of float32 use TensorFloat-32, or not."""
    torch.backends.cuda.matmul.allow_tf32 = enabled
    torch.backends.cudnn.allow_tf32 = enabled


def chosen(table: Sequence[Form], names: Sequence[str]) -> Iterator[Form]:
    """Forms of a table with the given names; all without names."""
    return (form for form in table if not names or form.name in names)


def check_forms(names: Sequence[str]) -> None:
    """Raises a UserError for unknown names of forms."""
    if unknown := sorted(set(names) - set(FORMS)):
        raise UserError(f"There is no form {unknown[0]!r}; choose from {FORMS}.")
