"""Export formats: how a file is written, read again and run in its own engine."""

import errno
import inspect
import io
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torchvision  # noqa: F401 (registers the operators that a TorchScript file calls)

from resnest_d2.compat.openvino import import_openvino, openvino_core
from resnest_d2.deploy.cpu.openvino_engine import OpenVINOEngine
from resnest_d2.errors import MissingPackageError, UserError

from .graph import halve_weights, inline_squeezes

OPSET = 17  # the highest in torch 2.1; RoiAlign with half pixels needs 16
METADATA = "resnest_d2.json"  # in a TorchScript file
METADATA_KEYS = (
    *("class_names", "input_format", "preprocess", "min_size", "max_size", "resizer"),
    *("batch", "score_threshold", "config", "precision", "weights", "resnest_d2_version"),
)
Run = Callable[[np.ndarray, float], list[np.ndarray]]


class Graph(NamedTuple):
    """What is written: a module to trace with example inputs, its outputs' names, metadata.

    ``half`` stores the weights in 16 bits.
    """

    module: torch.nn.Module
    inputs: tuple
    outputs: Sequence[str]
    metadata: Mapping[str, Any]
    half: bool


@dataclass(frozen=True)
class Format:
    """Suffix of a format, functions that write a file, open it in its engine and read its metadata.

    ``precisions`` are those that it can be stored in.
    """

    suffix: str
    write: Callable[[Graph, Path], None]
    open: Callable[[Path], Run]
    metadata: Callable[[Path], dict[str, str]]
    precisions: tuple[str, ...]


def _write_torchscript(graph: Graph, path: Path) -> None:
    traced = torch.jit.trace(graph.module, graph.inputs, check_trace=False)
    content = io.BytesIO()  # torch's own writing to a path raises no error of the system
    torch.jit.save(traced, content, _extra_files={METADATA: json.dumps(graph.metadata)})
    path.write_bytes(content.getbuffer())


def _open_torchscript(path: Path) -> Run:
    graph = torch.jit.load(path)

    def run(image: np.ndarray, threshold: float) -> list[np.ndarray]:
        # Optimising the graph again for every size takes seconds.
        with torch.no_grad(), torch.jit.optimized_execution(False):
            found = graph(torch.from_numpy(image), torch.tensor(threshold))
        return [values.numpy() for values in found]

    return run


def _torchscript_metadata(path: Path) -> dict[str, str]:
    files = {METADATA: ""}
    torch.jit.load(path, _extra_files=files)
    return {key: _text(value) for key, value in json.loads(files[METADATA] or "{}").items()}


def _to_onnx(graph: Graph, path: Path) -> None:
    image = graph.inputs[0]
    bytes_ = image.dtype == torch.uint8  # then channels last
    before = "batch" if image.ndim == 4 else None
    names = [before, "height", "width", None] if bytes_ else [before, None, "height", "width"]
    names = names if before else names[1:]
    # The default of newer torch versions needs onnxscript, and fails on such loops and branches.
    can_choose = "dynamo" in inspect.signature(torch.onnx.export).parameters
    options: dict[str, Any] = {"dynamo": False} if can_choose else {}
    torch.onnx.export(
        graph.module,
        graph.inputs,
        str(path),
        input_names=["image", "score_threshold"],
        output_names=list(graph.outputs),
        dynamic_axes={
            "image": {place: name for place, name in enumerate(names) if name},
            **{name: {0: "detections"} for name in graph.outputs},
        },
        opset_version=OPSET,
        **options,
    )


def _import_onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise MissingPackageError(
            "The onnx and openvino formats need onnx: pip install 'resnest-d2[onnx]'."
        ) from error
    return onnx


def _write_onnx(graph: Graph, path: Path) -> None:
    onnx = _import_onnx()
    _to_onnx(graph, path)
    model = onnx.load(path)
    inline_squeezes(model)
    if graph.half:
        halve_weights(model, onnx)
    # An initializer with the name of the input makes the input optional.
    default = np.array(graph.metadata["score_threshold"], np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(default, "score_threshold"))
    onnx.helper.set_model_props(model, {k: _text(v) for k, v in graph.metadata.items()})
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _open_onnx(path: Path) -> Run:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingPackageError(
            "Checking an ONNX file needs onnxruntime: pip install 'resnest-d2[onnx]'."
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # it warns that the threshold is an input with a default
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda image, threshold: session.run(
        None, {"image": image, "score_threshold": np.array(threshold, np.float32)}
    )


def _onnx_metadata(path: Path) -> dict[str, str]:
    model = _import_onnx().load(path, load_external_data=False)
    return {one.key: one.value for one in model.metadata_props}


def _write_openvino(graph: Graph, path: Path) -> None:
    openvino = import_openvino()
    onnx = _import_onnx()  # torch's exporter needs it too, and has a less clear error
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        onnx_file = Path(folder) / "model.onnx"
        _to_onnx(graph, onnx_file)
        converted = onnx.load(onnx_file)
        inline_squeezes(converted)
        onnx.save(converted, onnx_file)
        # Through ONNX: OpenVINO's conversion of the traced module gave different boxes.
        model = openvino_core().read_model(onnx_file)
        for key, value in graph.metadata.items():
            model.set_rt_info(_text(value), ["resnest_d2", key])
        try:
            openvino.save_model(model, path, compress_to_fp16=graph.half)
        except RuntimeError as error:  # of C++, without the system's error
            raise OSError(errno.EIO, f"OpenVINO: {error}") from error


def _open_openvino(path: Path) -> Run:
    engine = OpenVINOEngine(path)
    return lambda image, threshold: engine([image, np.array(threshold, np.float32)])


def _openvino_metadata(path: Path) -> dict[str, str]:
    model = openvino_core().read_model(path)
    return {
        key: model.get_rt_info(["resnest_d2", key]).astype(str)
        for key in METADATA_KEYS
        if model.has_rt_info(["resnest_d2", key])
    }


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


FORMATS = {
    "onnx": Format(".onnx", _write_onnx, _open_onnx, _onnx_metadata, ("fp32", "fp16", "int8")),
    "openvino": Format(
        ".xml", _write_openvino, _open_openvino, _openvino_metadata, ("fp32", "fp16", "int8")
    ),
    "torchscript": Format(
        ".pt", _write_torchscript, _open_torchscript, _torchscript_metadata, ("fp32",)
    ),
}


def format_of(path: Path) -> Format:
    """The format that a file has by its suffix.

    Raises:
        UserError: no format has that suffix.
    """
    for kind in FORMATS.values():
        if kind.suffix == path.suffix:
            return kind
    suffixes = ", ".join(kind.suffix for kind in FORMATS.values())
    raise UserError(f"{path} is not an exported file, whose names end in {suffixes}.")
