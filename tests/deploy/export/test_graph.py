"""Edits of ONNX graphs: the same results, without branches and with half the bytes."""

import numpy as np
import pytest
import torch

from resnest_d2.deploy.export import formats
from resnest_d2.deploy.export.graph import halve_weights, inline_squeezes

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def run(model, **inputs):
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, inputs)


def branch(name, kind, output):
    """A branch of an If node as torch writes it, with one operation on the outer x."""
    make = onnx.helper.make_node
    axes = onnx.numpy_helper.from_array(np.array([1]), f"{output}_axes")
    nodes = [make("Constant", [], [f"{output}_axes"], value=axes)] if kind == "Squeeze" else []
    inputs = ["x", f"{output}_axes"] if kind == "Squeeze" else ["x"]
    nodes.append(make(kind, inputs, [output]))
    shape = ["n"] if kind == "Squeeze" else ["n", 1]
    result = onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, shape)
    return onnx.helper.make_graph(nodes, name, [], [result])


@pytest.fixture
def branching():
    """Two squeezes whose dimension the exporter did not know, and a real branch."""
    make, info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    squeezes = [
        make(
            "If",
            ["true"],
            [f"y{i}"],
            name=f"/If_{i}",
            then_branch=branch("a", "Squeeze", "inner"),  # both have the same names inside
            else_branch=branch("b", "Identity", "other"),
        )
        for i in (0, 1)
    ]
    real = make(
        "If",
        ["true"],
        ["z"],
        name="/If_2",
        then_branch=branch("a", "Neg", "c"),
        else_branch=branch("b", "Identity", "d"),
    )
    true = onnx.numpy_helper.from_array(np.array(True), "true")
    floats = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [*squeezes, make("Add", ["y0", "y1"], ["y"]), real],
        "graph",
        [info("x", floats, ["n", 1])],
        [info("y", floats, ["n"]), info("z", floats, ["n", 1])],
        [true],
    )
    opsets = [onnx.helper.make_opsetid("", formats.OPSET)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)


def test_squeezes_are_no_branches(branching):
    onnx.checker.check_model(branching)
    x = np.arange(4, dtype=np.float32)[:, None]
    expected = run(branching, x=x)
    np.testing.assert_array_equal(expected[0], [0, 2, 4, 6])
    inline_squeezes(branching)
    onnx.checker.check_model(branching)
    kinds = [n.op_type for n in branching.graph.node]
    assert (kinds.count("If"), kinds.count("Squeeze")) == (1, 2)
    for ours, theirs in zip(run(branching, x=x), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


class Net(torch.nn.Module):
    """Layers with weights."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3)
        self.up = torch.nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.line = torch.nn.Linear(4, 2)

    def forward(self, image, threshold):
        return self.line(self.up(self.conv(image[None])).mean((2, 3))), threshold + 1


def test_weights_take_half_the_bytes(tmp_path):
    torch.manual_seed(0)
    inputs = torch.rand(3, 8, 9), torch.tensor(0.5)
    formats._to_onnx(
        formats.Graph(Net().eval(), inputs, ("a", "b"), {}, False), tmp_path / "net.onnx"
    )
    model, halved = (onnx.load(tmp_path / "net.onnx") for _ in range(2))
    halve_weights(halved, onnx)
    onnx.checker.check_model(halved)
    kinds = {t.name: t.data_type for t in halved.graph.initializer}
    halves = {name for name, kind in kinds.items() if kind == onnx.TensorProto.FLOAT16}
    assert halves == {f"{name}.weight/fp16" for name in ("conv", "up", "line")}
    assert kinds["conv.bias"] == onnx.TensorProto.FLOAT
    about = {"image": inputs[0].numpy(), "score_threshold": np.array(0.4, np.float32)}
    ours, theirs = run(halved, **about)[0], run(model, **about)[0]
    assert 0 < np.abs(ours - theirs).max() < 1e-3
