"""Exported files called like the detectors that they were made of."""

import pytest
import torch
from detectors import images
from same import assert_same_detections

from resnest_d2.deploy.export import FileDetector, ShortestEdge, export, without_resizing
from resnest_d2.errors import MissingFileError, UserError


@pytest.mark.parametrize(
    ("format", "suffix"), [("torchscript", "pt"), ("onnx", "onnx"), ("openvino", "xml")]
)
@pytest.mark.parametrize("detector", ["mask"], indirect=True)
@torch.no_grad()
def test_equals_the_detector(format, suffix, detector, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("openvino")
    model, path = detector, tmp_path / f"x.{suffix}"
    export(model, path, format=format, class_names=["a", "b", "c"], score_threshold=0.3)
    file = FileDetector(path, score_threshold=0.05)
    assert not file.resizes and not file.training
    assert FileDetector(path).score_threshold == pytest.approx(0.3)
    assert file.metadata["class_names"] == '["a", "b", "c"]'
    for one, found in zip(images(), file(images()), strict=True):
        (expected,) = model([one])  # alone, because a batch is padded
        assert len(expected["instances"]) > 5
        assert_same_detections(found["instances"], expected["instances"])


@pytest.mark.parametrize("detector", ["mask"], indirect=True)
@torch.no_grad()
def test_a_file_that_resizes_takes_whole_images(detector, rcnn_cfg, tmp_path):
    model, path = detector, tmp_path / "x.pt"
    resize = ShortestEdge(64, 128)
    export(model, path, format="torchscript", resize=resize)
    file = FileDetector(path, score_threshold=0.05)
    assert file.resizes and without_resizing(rcnn_cfg).INPUT.MIN_SIZE_TEST == 0
    assert rcnn_cfg.INPUT.MIN_SIZE_TEST == 64
    whole = (torch.rand(3, 90, 120) * 255).round()
    (found,) = file([{"image": whole, "height": 45, "width": 60}])
    (expected,) = model([{"image": resize(whole), "height": 45, "width": 60}])
    assert len(expected["instances"]) > 5
    assert_same_detections(found["instances"], expected["instances"])


@pytest.mark.parametrize("suffix", ["onnx", "pt", "xml"])
@pytest.mark.parametrize("content", [b"<a/>" * 99, b""])
def test_a_damaged_file_is_named(suffix, content, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("openvino")
    (tmp_path / f"a.{suffix}").write_bytes(content)
    with pytest.raises(UserError, match=rf"^{tmp_path}/a\.{suffix} (.*damaged|was not wr)"):
        FileDetector(tmp_path / f"a.{suffix}")


@pytest.mark.parametrize("detector", ["faster"], indirect=True)
@pytest.mark.parametrize("kept", [None, 0, 0.5])
def test_a_file_without_its_weights_is_named(kept, detector, tmp_path):
    pytest.importorskip("openvino")
    export(detector, tmp_path / "a.xml", format="openvino")
    weights = tmp_path / "a.bin"
    content = weights.read_bytes()
    if kept is None:
        weights.unlink()
    else:
        weights.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(UserError, match=rf"a\.xml or {weights} is missing or damaged \(Run"):
        FileDetector(tmp_path / "a.xml")
    weights.write_bytes(content)
    assert FileDetector(tmp_path / "a.xml")(images())


def test_what_is_refused(tmp_path):
    with pytest.raises(MissingFileError, match=r"There is no file .*a\.onnx"):
        FileDetector(tmp_path / "a.onnx")
    (tmp_path / "b.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=r"b\.bin is not an exported file.*\.onnx, \.xml, \.pt"):
        FileDetector(tmp_path / "b.bin")
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), tmp_path / "c.pt")
    with pytest.raises(ValueError, match=r"c\.pt was not written by `resnest-d2 export`"):
        FileDetector(tmp_path / "c.pt")
