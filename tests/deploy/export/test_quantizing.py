"""Detectors in 8 bits: close to float32, whole files, and what they are refused for."""

import re
import sys

import pytest
import torch
from detectors import images
from test_inference_precision import found_again

from resnest_d2.deploy import optimize_for_inference
from resnest_d2.deploy.export import FileDetector, ShortestEdge, export, fingerprint
from resnest_d2.deploy.export import quantizing as module
from resnest_d2.deploy.export.int8 import quantized_beside
from resnest_d2.errors import MissingFileError, MissingPackageError
from resnest_d2.modeling import ResNeSt

SEED = 11  # of weights with which detectors of every kind find objects far from their thresholds


def of_kinds(*kinds):
    """Runs a test with the detectors of these kinds."""
    return pytest.mark.parametrize("detector", kinds, indirect=True)


@pytest.fixture(scope="module")
def pixels():
    return [one["image"] for one in images()]


@torch.no_grad()
def test_openvino_is_close(detector, pixels, request):
    pytest.importorskip("nncf")
    model = detector
    share = 0.3 if "GN" in request.node.name else 0.4  # low, because the weights are random
    fast = optimize_for_inference(model, precision="int8", calibration=pixels)
    assert fast.metadata["precision"] == "int8" and not fast.training
    for found, expected in zip(fast(images()), model(images()), strict=True):
        ours, theirs = found["instances"], expected["instances"]
        assert ours.get_fields().keys() == theirs.get_fields().keys()
        assert ours.image_size == theirs.image_size
        assert len(theirs) > 5 and found_again(ours, theirs) > share


@of_kinds("mask")
@torch.no_grad()
def test_onnx_is_close(detector, pixels, tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    model, sizes = detector, {}
    calibration = [one.permute(1, 2, 0).byte().numpy() for one in pixels]
    for precision in ("fp32", "fp16", "int8"):
        path = tmp_path / f"{precision}.onnx"
        export(
            model,
            path,
            resize=ShortestEdge(64, 128),
            precision=precision,
            calibration=calibration if precision == "int8" else (),
        )
        sizes[precision] = path.stat().st_size
    assert sizes["fp16"] < 0.75 * sizes["fp32"]
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    assert kinds.count("QuantizeLinear") > 20
    file = FileDetector(path)
    assert (file.metadata["precision"], file.resizes) == ("int8", True)
    inputs = [{**one, "image": one["image"].round()} for one in images()]
    shares = [
        found_again(found["instances"], expected["instances"])
        for found, expected in zip(file(inputs), model(inputs), strict=True)
    ]
    assert sum(shares) / len(shares) > 0.5


NAMES = [
    ("/detector/backbone/bottom_up/stem/conv1_1/Conv", True, True, True),
    ("/detector/backbone/bottom_up/stem/conv1/Conv", True, True, True),
    ("/detector/backbone/bottom_up/stem/conv1_2/Conv", True, True, True),
    ("/detector/backbone/bottom_up/res2/res2.0/conv1/Conv", False, False, False),
    ("/detector/backbone/bottom_up/res2/res2.0/conv2/fc1/Conv", True, True, True),
    ("/detector/backbone/Add_1", False, False, False),
    ("/detector/backbone/fpn_output3/Conv", False, False, True),
    ("/detector/roi_heads/box_head/fc1/Gemm", False, True, True),
    ("/detector/roi_heads/box_head.2/conv1/Conv/WithoutBiases", False, True, True),
    ("/detector/roi_heads/mask_head/trunk/mask_fcn1/Conv", False, True, True),
    ("/detector/proposal_generator/rpn_head/conv_3/Conv", False, False, True),
    ("/detector/proposal_generator/rpn_head/anchor_deltas_3/Conv", True, True, True),
    ("/detector/roi_heads/box_predictor.1/cls_score/Gemm/WithoutBiases", True, True, True),
    ("/detector/roi_heads/mask_head/Add", True, True, True),
    ("/detector/roi_heads/mask_head/predictor/Conv", True, True, True),
    ("/detector/roi_heads/box_pooler/level_poolers.1/RoiAlign", True, True, True),
    ("/detector/roi_heads/Mul_12", True, True, True),
    ("/detector/proposal_generator/Exp", True, True, True),
    ("/detector/Gather_7", True, True, True),
    ("/MatMul_1", True, True, True),  # of the resizing
]


def test_which_layers_stay_exact(monkeypatch):
    patterns = []
    monkeypatch.setitem(module._QUANTIZERS, "onnx", lambda *a: patterns.append(a[-1]))
    for exact in module.EXACT:
        module.quantize("x.onnx", [0], format="onnx", exact=exact)
    found = [(name, *(bool(re.match(p, name)) for p in patterns)) for name, *_ in NAMES]
    assert found == NAMES


@of_kinds("faster")
def test_a_file_is_known_by_its_weights(detector, pixels, tmp_path):
    pytest.importorskip("nncf")
    model, path = detector, tmp_path / "model_final.pth"
    torch.save({"model": model.state_dict()}, path)
    with pytest.raises(MissingFileError, match=r"no .*int8.xml; write it with `resnest-d2 export"):
        quantized_beside(model, str(path))
    arrays = [one.numpy() for one in pixels]
    about = {"format": "openvino", "precision": "int8", "calibration": arrays}
    export(model, path.parent / "int8.xml", **about)
    assert quantized_beside(model, str(path), score_threshold=0.3).score_threshold == 0.3
    before = fingerprint(model)
    with torch.no_grad():
        model.roi_heads.box_predictor.cls_score.bias[0] += 1e-6
    assert fingerprint(model) != before
    with pytest.raises(ValueError, match=r"int8.xml was made of other weights than .*--overwrite"):
        quantized_beside(model, str(path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int8"}, "int8 needs calibration images"),
        ({"precision": "bf16"}, "onnx format has no precision 'bf16'; choose from .*'int8'"),
        ({"precision": "fp16", "format": "torchscript"}, "torchscript .* no precision 'fp16'"),
    ],
)
@of_kinds("faster")
def test_what_is_refused(options, message, detector, tmp_path):
    suffix = "pt" if "format" in options else "onnx"
    with pytest.raises(ValueError, match=message):
        export(detector, tmp_path / f"x.{suffix}", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("format", "package", "extra"),
    [("openvino", "nncf", "openvino"), ("onnx", "onnxruntime.quantization", "onnx")],
)
def test_missing_packages_name_the_extra(format, package, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=rf"pip install 'resnest-d2\[{extra}\]'"):
        module.import_quantizer(format)


@of_kinds("faster")
def test_int8_is_for_whole_detectors_on_the_cpu(detector):
    with pytest.raises(ValueError, match="A ResNeSt cannot be exported"):
        net = ResNeSt(14).eval()
        optimize_for_inference(net, precision="int8", calibration=[torch.ones(3, 9, 9)])
    with pytest.raises(ValueError, match="int8 is for OpenVINO on the CPU; the backend is 'ind"):
        optimize_for_inference(detector, backend="inductor", precision="int8")
