"""Safe reading of checkpoints, without running code.

torch's files are read with ``weights_only=True``. From torch 2.6 on, plain types that published
files contain beside tensors are allowed: numpy scalars and arrays, argparse namespaces, and
mmengine's log, which is skipped.
"""

import os
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from resnest_d2.compat.pytorch import allowing_plain_types, refused_type
from resnest_d2.errors import MissingFileError, UserError, printable

WRAPPERS = ("model", "state_dict", "model_state", "ema", "state_dict_ema")  # in order of preference
_DEEPEST = 50  # levels of containers in a checkpoint; those of a training have about ten
_FLOATS = ("weight", "bias", "running_mean", "running_var")  # last part of the names of floats
# What these tensors cannot be.
_FAULTS: tuple[tuple[str, Callable[[torch.Tensor], bool]], ...] = (
    ("is quantized", lambda tensor: tensor.is_quantized),
    ("is sparse", lambda tensor: tensor.layout is not torch.strided),
    ("has complex numbers", torch.is_complex),
    ("has integers", lambda tensor: not tensor.is_floating_point()),
    ("has values that are infinite or NaN", lambda tensor: not tensor.float().isfinite().all()),
)
_PREFIXES = ("module.", "_orig_mod.")  # of DistributedDataParallel and torch.compile


class _Skipped:
    """Replaces an object of a library that is not needed, and discards its contents."""

    def __init__(self, *args: Any, **kwargs: Any):
        del args, kwargs

    def __setstate__(self, state: Any) -> None:
        del state


_STAND_INS = {"mmengine.logging.history_buffer.HistoryBuffer": _Skipped}


def read_checkpoint(path: str | os.PathLike) -> dict[str, Any]:
    """Reads a file of torch or safetensors to the CPU.

    Raises:
        MissingFileError: there is no such file.
        UserError: the file is empty, no checkpoint or damaged, or needs more than tensors and plain
            types. The message names the code that it needs, which was not run.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise MissingFileError(f"The checkpoint {path} does not exist.")
    with open(path, "rb") as file:
        start = file.read(16)
    if not start:
        raise UserError(f"The checkpoint {path} is empty.")
    if path.endswith(".safetensors"):
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise UserError(f"{path} is not a readable safetensors file: {error}") from error
    check_beginning(path, start)
    refuse_pickle(path)
    if start.startswith(b"PK"):
        _check_archive(path)
    try:
        with allowing_plain_types(**_STAND_INS):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds for broken files
        message = str(error) or type(error).__name__
        if asked := refused_type(error):
            raise UserError(
                f"{path} is refused: to be read it asks for {asked}, which is neither a tensor "
                "nor a plain type and could run code. Save its weights alone, as a dictionary of "
                "tensors, where you trust it."
            ) from error
        raise UserError(
            f"{path} is not a checkpoint that can be read safely; it is truncated, damaged or of "
            f"another kind: {message.splitlines()[0]}"
        ) from error
    if not isinstance(loaded, Mapping):
        raise UserError(f"{path} holds no dictionary of tensors, but {type(loaded).__name__}.")
    _check_nesting(loaded, path)
    return dict(loaded)


def check_beginning(path: str, start: bytes) -> None:
    """Checks the first bytes of a file of torch.

    Raises:
        UserError: neither a zip archive nor a pickle.
    """
    if not start.startswith((b"PK", b"\x80")):
        kind = "a web page" if start.lstrip().startswith(b"<") else f"a file that begins {start!r}"
        raise UserError(f"{path} is not a checkpoint of torch, but {kind}; download it again.")


def refuse_pickle(path: str) -> None:
    """Refuses a file of detectron2's older formats by its name.

    Raises:
        UserError: it is a pickle.
    """
    if path.endswith((".pkl", ".pyth")):
        raise UserError(
            f"{path} is a pickle, which can run any code when it is read; use a .pth file of "
            "tensors, or .safetensors."
        )


def _check_archive(path: str) -> None:
    """Refuses archives that hold more than their size, and programs, which old torch would load."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError) as error:  # of a foreign kind of archive
        raise UserError(
            f"{path} is not a checkpoint that can be read safely; it is truncated, damaged or of "
            f"another kind: {error}"
        ) from error
    size, unpacked = os.path.getsize(path), sum(entry.file_size for entry in entries)
    if unpacked > size:  # torch does not compress
        raise UserError(
            f"{path} is refused: it is an archive of {size} bytes that unpacks to {unpacked}; "
            "torch.save writes archives without compression."
        )
    if any(entry.filename.endswith("/constants.pkl") for entry in entries):
        raise UserError(
            f"{path} is a TorchScript program, not a checkpoint; give the checkpoint that it was "
            "exported from."
        )


def _check_nesting(content: Any, path: str) -> None:
    """Checks that contents do not contain themselves, and are not nested as if to do harm.

    Raises:
        UserError: they are.
    """
    above: set[int] = set()  # the containers around the current one
    done: set[int] = set()
    waiting = [(content, False)]
    while waiting:
        value, left = waiting.pop()
        if left:
            above.remove(id(value))
            done.add(id(value))
        elif isinstance(value, Mapping | list | tuple | set) and id(value) not in done:
            if id(value) in above:
                raise UserError(f"{path} is no checkpoint: its contents contain themselves.")
            if len(above) == _DEEPEST:
                raise UserError(f"{path} is no checkpoint: it is nested {_DEEPEST} levels deep.")
            above.add(id(value))
            waiting.append((value, True))
            parts = value.values() if isinstance(value, Mapping) else value
            waiting += [(part, False) for part in parts]


def find_weights(checkpoint: Mapping[str, Any], path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """Finds the tensors of a checkpoint inside its wrappers.

    Args:
        checkpoint: result of :func:`read_checkpoint`.
        path: path of the file, for the message.

    Raises:
        UserError: there are no tensors in it, or weights that no detector can have.
    """
    found: Any = checkpoint
    while wrapper := next((w for w in WRAPPERS if isinstance(found.get(w), Mapping)), None):
        found = found[wrapper]
    weights = {}
    for name, value in found.items():
        value = torch.from_numpy(value) if isinstance(value, np.ndarray) else value
        if isinstance(value, torch.Tensor):
            if printable(name) != str(name):
                raise UserError(f"{path} has a tensor named {name!r}, with control characters.")
            weights[str(name)] = value
    for prefix in _PREFIXES:
        if weights and all(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    if not weights:
        raise UserError(f"{path} holds no dictionary of tensors, only {list(found)[:5]}.")
    for name, tensor in weights.items():
        if name.rpartition(".")[2] in _FLOATS:
            fault = next((text for text, has in _FAULTS if has(tensor)), None)
            if fault:
                raise UserError(
                    f"{path} cannot be used: {name} {fault} ({tensor.dtype}); weights are finite "
                    "floating-point numbers."
                )
    return weights
