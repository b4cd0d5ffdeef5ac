"""Edits of an ONNX graph after torch has written it."""

from typing import Any


def inline_squeezes(model: Any) -> None:
    """Replaces each branch on whether a dimension is 1 by its squeeze, in place.

    torch's exporter writes ``squeeze`` of a dimension whose length it does not know as an If node.
    In a trace the dimension was 1, and later layers rely on it. Engines optimize and quantize a
    graph without branches as one.

    Args:
        model: an ``onnx.ModelProto``.
    """
    nodes = []
    for node in model.graph.node:
        branches = {a.name: a.g for a in node.attribute} if node.op_type == "If" else {}
        kinds = {name: [n.op_type for n in graph.node] for name, graph in branches.items()}
        squeezes = [k for k in kinds.get("then_branch", []) if k != "Constant"] == ["Squeeze"]
        if not squeezes or kinds["else_branch"] != ["Identity"]:
            nodes.append(node)
            continue
        inner = branches["then_branch"]
        named = {value.name: f"{node.name}/{value.name}" for value in inner.output}
        named[inner.output[0].name] = node.output[0]
        for one in inner.node:
            for i, name in enumerate(one.output):
                named.setdefault(name, f"{node.name}/{name}")
                one.output[i] = named[name]
            for i, name in enumerate(one.input):
                one.input[i] = named.get(name, name)
            nodes.append(one)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def halve_weights(model: Any, onnx: Any) -> None:
    """Stores the weights of convolutions and linear layers in 16 bits, cast to 32 in the graph.

    Args:
        model: an ``onnx.ModelProto``, changed in place.
        onnx: the package.
    """
    kinds = ("Conv", "ConvTranspose", "Gemm", "MatMul")
    wanted = {n.input[1] for n in model.graph.node if n.op_type in kinds}
    casts = []
    for tensor in model.graph.initializer:
        if tensor.name not in wanted or tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        name, half = tensor.name, f"{tensor.name}/fp16"
        values = onnx.numpy_helper.to_array(tensor).astype("float16")
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, half))
        casts.append(onnx.helper.make_node("Cast", [half], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
