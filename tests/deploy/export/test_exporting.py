"""Files of detectors in their own engines, against the detector."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image

from resnest_d2.deploy.cpu.roi_align import replace_poolers
from resnest_d2.deploy.export import ShortestEdge, export, exporting, formats
from resnest_d2.deploy.export.formats import FORMATS, METADATA

ROOT = Path(__file__).parents[3]
RESIZE = ShortestEdge(64, 128)
THRESHOLD = 0.26  # which the random heads pass in some images


@pytest.fixture
def make(rcnn_cfg):
    """A function that builds a small detector of the kind asked for."""

    def build(kind):
        cfg = rcnn_cfg
        cfg.MODEL.MASK_ON = "mask" in kind
        if "cascade" in kind:
            cfg.MODEL.ROI_HEADS.NAME = "CascadeMaskROIHeads"
            cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = True
            cfg.MODEL.ROI_BOX_CASCADE_HEAD.AVERAGE_LOGITS = True
            cfg.MODEL.ROI_BOX_CASCADE_HEAD.TWO_SIDED_CLAMP = True
            cfg.MODEL.ROI_MASK_HEAD.PER_STAGE = "mask" in kind
        torch.manual_seed(0)
        model = build_model(cfg).eval()
        if kind == "mask":
            replace_poolers(model)  # as in a Trainer's
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var"):
                torch.nn.init.uniform_(tensor, 0.6, 1.4)
            elif "predictor" in name and name.endswith("weight"):
                torch.nn.init.normal_(tensor, std=0.05)
        return model

    return build


def assert_report(report, masks):
    *filled, empty = report.differences
    assert sum(d.detections for d in filled) > 3 and empty.detections == 0
    assert len({d.size for d in report.differences}) == 3
    for difference in report.differences:
        assert difference.small and difference.boxes < 0.1 and difference.scores < 1e-3
        assert (difference.masks is not None) == masks
    assert report.path.is_file()


@pytest.fixture
def one_graph(monkeypatch):
    """Only the first file of a test is traced; the others are made of its ONNX graph."""
    write, written = formats._to_onnx, []

    def write_once(graph, path):
        if not written:
            write(graph, path)
            written.append(path.read_bytes())
        path.write_bytes(written[0])

    monkeypatch.setattr(formats, "_to_onnx", write_once)


@pytest.mark.parametrize("kind", ["faster", "mask", "cascade", "cascade mask"])
def test_kinds(make, one_graph, tmp_path, kind):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    openvino = pytest.importorskip("openvino")
    model = make(kind)
    about = {"class_names": ["cat", "dog", "cow"], "score_threshold": THRESHOLD}
    about["resize"] = RESIZE if kind in ("mask", "cascade") else None
    report = export(model, tmp_path / "model.onnx", **about)
    assert_report(report, masks="mask" in kind)
    report = export(model, tmp_path / "model.xml", format="openvino", **about)
    assert_report(report, masks="mask" in kind)
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {"model.onnx", "model.xml", "model.bin"}
    read = openvino.Core().read_model(tmp_path / "model.xml")
    assert read.get_rt_info(["resnest_d2", "class_names"]).value == '["cat", "dog", "cow"]'
    if kind == "mask":
        assert_runs_without_torch(tmp_path / "model.onnx", model.input_format)
    if about["resize"] is None:
        done = run_tool(tmp_path / "model.onnx", "image.png")
        assert done.returncode == 1 and done.stderr == (
            f"{tmp_path / 'model.onnx'} takes resized images; export it with --preprocess inside.\n"
        )


def run_tool(path, image):
    tool = f"""
import runpy, sys
sys.argv = ["run_onnx", {str(path)!r}, {str(image)!r}]
runpy.run_path({str(ROOT / "tools/run_onnx.py")!r})
assert not {{"torch", "detectron2", "resnest_d2"}} & set(sys.modules)
"""
    return subprocess.run([sys.executable, "-c", tool], capture_output=True, text=True)


def assert_runs_without_torch(path, input_format):
    """What tools/run_onnx.py prints is what the file finds, on an image that EXIF turns."""
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(np.rot90(image)).save(path.parent / "image.png", exif=exif)
    done = run_tool(path, path.parent / "image.png")
    assert done.returncode == 0, done.stderr
    given = image[:, :, ::-1] if input_format == "BGR" else image
    boxes, scores, classes, _ = FORMATS["onnx"].open(path)(np.ascontiguousarray(given), THRESHOLD)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == [["cat", "dog", "cow"][c] for c in classes]
    found = np.array([[float(word) for word in line[1:6]] for line in lines])
    assert len(found) > 0
    np.testing.assert_allclose(found[:, 0], scores, atol=1e-3)
    np.testing.assert_allclose(found[:, 1:], boxes, atol=0.06)


def test_torchscript_needs_torchvision_alone(make, tmp_path):
    path = tmp_path / "model.pt"
    report = export(
        make("mask"), path, format="torchscript", class_names=["a", "b", "c"], config="x.yaml"
    )
    assert_report(report, masks=True)
    code = f"""
import json, sys, torch, torchvision
files = {{{METADATA!r}: ""}}
graph = torch.jit.load({str(path)!r}, _extra_files=files)
found = graph(torch.zeros(3, 70, 90), torch.tensor(1.0))
assert "detectron2" not in sys.modules and "resnest_d2" not in sys.modules
print(json.dumps([json.loads(files[{METADATA!r}])["class_names"], [list(f.shape) for f in found]]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [["a", "b", "c"], [[0, 4], [0], [0], [0, 28, 28]]]


def test_a_wrong_file_is_not_kept(make, tmp_path, monkeypatch):
    def shifted(path):
        one = [np.array([[0, 0, 9, 9]], np.float32), np.ones(1, np.float32), np.zeros(1, int)]
        return lambda *inputs: one

    wrong = dataclasses.replace(FORMATS["torchscript"], open=shifted)
    monkeypatch.setitem(exporting.FORMATS, "torchscript", wrong)
    with pytest.raises(ValueError, match="differs too much, and was not kept"):
        export(make("faster"), tmp_path / "model.pt", format="torchscript")
    assert not list(tmp_path.iterdir())


def test_what_is_refused(make, rcnn_cfg, tmp_path):
    model = make("faster")
    with pytest.raises(ValueError, match="no format 'tflite'; choose from .*'torchscript'"):
        export(model, tmp_path / "x.tflite", format="tflite")
    with pytest.raises(ValueError, match=r"onnx format writes files named \*.onnx"):
        export(model, tmp_path / "x.pt")
    with pytest.raises(ValueError, match="2 class names were given, the model has 3 classes"):
        export(model, tmp_path / "x.onnx", class_names=["a", "b"])
    with pytest.raises(ValueError, match="A Linear cannot be exported"):
        export(torch.nn.Linear(2, 2), tmp_path / "x.onnx")
    with pytest.raises(ValueError, match="call model.eval"):
        export(model.train(), tmp_path / "x.onnx")
    rcnn_cfg.MODEL.RESNETS.DEFORM_ON_PER_STAGE = [False, False, False, True]
    with pytest.raises(ValueError, match="deformable convolutions.*choose the format torchscript"):
        export(make("faster"), tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


def test_an_existing_file_is_replaced_only_if_asked(make, tmp_path):
    (tmp_path / "a.onnx").write_text("mine")
    with pytest.raises(FileExistsError, match="a.onnx exists; give another output or ask"):
        export(make("faster"), tmp_path / "a.onnx", format="onnx")
    assert (tmp_path / "a.onnx").read_text() == "mine"
