"""The seams to torch: oneDNN's operators, its safe reading, and the errors of its data workers."""

import argparse
import contextlib
import functools
import io
import logging
import pickle
import re
import traceback
from multiprocessing import resource_sharer
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from resnest_d2.errors import UserError

Where = tuple[list[int], list[int], list[int], int]  # padding, stride, dilation, groups


@functools.cache
def has_onednn(dtype: torch.dtype = torch.float32) -> bool:
    """Whether torch has oneDNN's fused convolution and it computes what the plain one does.

    Args:
        dtype: of maps, weights and biases.
    """
    if not torch.backends.mkldnn.is_available():
        return False
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        # No random numbers: those of the caller stay as they are.
        x = torch.linspace(-1, 1, 2 * 16 * 25, device="cpu", dtype=torch.float32)
        x = x.view(2, 16, 5, 5).contiguous(memory_format=torch.channels_last)
        weight = torch.linspace(1, -1, 16 * 16, device="cpu", dtype=torch.float32)
        weight = weight.view(16, 16, 1, 1).contiguous(memory_format=torch.channels_last)
        bias = torch.linspace(-1, 1, 16, device="cpu", dtype=torch.float32)
        where: Where = ([0, 0], [1, 1], [1, 1], 1)
        plain = F.conv2d(x, weight, bias)
        try:
            narrow, weight, own = x.to(dtype), weight.to(dtype), bias.to(dtype)
            packed = onednn_weight(weight, where, x.shape)
            pairs = [
                (onednn_convolve(narrow, packed, own, where, relu=False), plain),
                (onednn_convolve(narrow, packed, own, where, relu=True), plain.relu()),
                *(
                    (
                        onednn_convolve(
                            narrow, packed, own, where, relu=relu, residual=narrow.clone()
                        ),
                        (plain + x).relu() if relu else plain + x,
                    )
                    for relu in (False, True)
                ),
            ]
            error = 1e-4 if dtype == torch.float32 else 0.05  # values are up to 9
            right = all(torch.allclose(o.float(), t, atol=error, rtol=1e-5) for o, t in pairs)
        except (AttributeError, RuntimeError, TypeError, ValueError) as error:
            logging.getLogger(__name__).info(f"oneDNN's fused convolution does not run: {error}")
            return False
    if not right:
        logging.getLogger(__name__).warning("oneDNN's fused convolution is wrong here: not used.")
    return right


def onednn_weight(weight: torch.Tensor, where: Where, size: Any) -> torch.Tensor:
    """A convolution's weight in the order that oneDNN wants for an input of a size."""
    return torch.ops.mkldnn._reorder_convolution_weight(weight, *where, list(size))


def onednn_order(packed: torch.Tensor) -> bytes:
    """What tells orders of :func:`onednn_weight` apart; the same for all where torch hides it."""
    try:
        return torch.ops.mkldnn._get_mkldnn_serialized_md(packed).numpy().tobytes()
    except AttributeError:  # an older torch
        return b""


def onednn_convolve(
    x: torch.Tensor,
    packed: torch.Tensor,
    bias: torch.Tensor | None,
    where: Where,
    *,
    relu: bool,
    residual: torch.Tensor | None = None,
) -> torch.Tensor:
    """Convolution, sum and ReLU in one operation; where :func:`has_onednn`.

    Args:
        x: the input, channels_last.
        packed: of :func:`onednn_weight`.
        bias: of the convolution.
        where: its padding, stride, dilation and groups.
        relu: at the end.
        residual: added before; overwritten.
    """
    if residual is None:
        after: tuple[str, list, str] = ("relu" if relu else "none", [], "")
        return torch.ops.mkldnn._convolution_pointwise(x, packed, bias, *where, *after)
    return torch.ops.mkldnn._convolution_pointwise_.binary(
        residual, x, packed, bias, *where, "add", 1.0, "relu" if relu else None, [], None
    )


def autocast_dtype(device: str) -> torch.dtype | None:
    """Type of autocast on a device where it is enabled, else None; also before torch 2.4."""
    if hasattr(torch, "get_autocast_dtype"):
        return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    if device == "cpu":
        return torch.get_autocast_cpu_dtype() if torch.is_autocast_cpu_enabled() else None
    return torch.get_autocast_gpu_dtype() if torch.is_autocast_enabled() else None


def _plain_types() -> list:
    # What numpy's arrays and scalars name as their constructors when they are saved.
    functions = {
        "_reconstruct": np.zeros(0).__reduce__()[0],
        "scalar": np.float64(0).__reduce__()[0],
    }
    types: list = [np.ndarray, np.dtype, argparse.Namespace]
    types += [type(np.dtype(kind)) for kind in "f4 f8 i4 i8 u1 ?".split()]
    for name, function in functions.items():  # numpy 1 saves core, numpy 2 _core
        types += [(function, f"numpy.{core}.multiarray.{name}") for core in ("core", "_core")]
    return types


@functools.cache
def can_allow_types() -> bool:
    """Whether torch can allow types by their names when it reads safely: from 2.6 on."""
    content = {"scalar": np.float64(0.5), "array": np.arange(3.0)}
    file = io.BytesIO()
    torch.save(content, file)
    file.seek(0)
    try:
        with torch.serialization.safe_globals(_plain_types()):
            loaded = torch.load(file, weights_only=True)
    except (AttributeError, TypeError, RuntimeError, pickle.UnpicklingError) as error:
        logging.getLogger(__name__).debug(f"Checkpoints with numpy's types are refused: {error}")
        return False
    return loaded["scalar"] == 0.5 and np.array_equal(loaded["array"], np.arange(3.0))


def allowing_plain_types(**skipped: type) -> contextlib.AbstractContextManager:
    """Let ``torch.load(..., weights_only=True)`` read numpy's values and argparse's namespaces.

    An older torch reads tensors and Python's own types alone, and names what it refuses.

    Args:
        **skipped: what stands in for a type of another library, by the type's full name.
    """
    if not can_allow_types():
        return contextlib.nullcontext()
    stand_ins: list = [(type_, name) for name, type_ in skipped.items()]
    return torch.serialization.safe_globals(_plain_types() + stand_ins)


def refused_type(error: BaseException) -> str | None:
    """What a file asked for that safe reading does not allow; None for an error of another kind."""
    found = re.search(r"(?:GLOBAL|[Uu]nsupported class|function) ([\w.]+)", str(error))
    return found[1] if found else None


def is_dead_worker(error: BaseException) -> bool:
    """Whether a process of a DataLoader ended on its own, by a signal or for want of memory."""
    if isinstance(error, ConnectionError | EOFError | FileNotFoundError):  # of the worker's socket
        frames = traceback.extract_tb(error.__traceback__)
        return any(frame.filename == resource_sharer.__file__ for frame in frames)
    return (
        isinstance(error, RuntimeError)
        and not isinstance(error, NotImplementedError | RecursionError)
        and str(error).startswith("DataLoader worker")
    )


def is_terminated_worker(error: BaseException) -> bool:
    """Whether that process was ended by SIGTERM, as clusters stop jobs."""
    text = "killed by signal: Terminated"
    return is_dead_worker(error) and (text in str(error) or text in str(error.__cause__))


def mistake_in_worker(error: BaseException) -> str | None:
    """The message of a UserError that was raised in a data worker, without its traceback.

    torch raises an error of the same class here, whose message is the traceback there.
    """
    text = str(error)
    if not isinstance(error, UserError) or not text.startswith("Caught "):
        return None
    name = f"{type(error).__module__}.{type(error).__qualname__}: "
    _, found, message = text.rpartition(name)
    return message.strip() if found else None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: Python's, NumPy's, OpenCV's, or torch's on a CPU or GPU."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    # torch's CPU allocator and OpenCV raise errors of all kinds, which only their texts tell apart
    return any(text in str(error) for text in ("allocate memory", "Insufficient memory"))


def is_lost_process(error: BaseException) -> bool:
    """Whether a collective operation failed because another process of the group has ended."""
    text = str(error)
    if not isinstance(error, RuntimeError) or not ("gloo" in text or "NCCL" in text):
        return False
    return bool(
        re.search(r"[Cc]onnection (closed|reset|refused)|[Bb]roken pipe|process exited", text)
    )
