"""``resnest-d2 export``: what it hands to the package, and what it prints."""

import json

import pytest
import torch
import typer
from detectron2.modeling import build_model
from typer.testing import CliRunner

from resnest_d2.cli.export import export
from resnest_d2.deploy.cpu import allocator
from resnest_d2.deploy.export.formats import METADATA

QUICK = "quick_schedules/faster_rcnn_ResNeSt_14_FPN_quick.yaml"


@pytest.fixture
def run_folder(rcnn_cfg, tmp_path):
    """What a training leaves: a config and the weights, of a small detector."""
    rcnn_cfg.MODEL.MASK_ON = False
    rcnn_cfg.DATASETS.TEST = ("shapes_val",)
    torch.manual_seed(0)
    torch.save({"model": build_model(rcnn_cfg).state_dict()}, tmp_path / "model_final.pth")
    (tmp_path / "config.yaml").write_text(rcnn_cfg.dump())
    return tmp_path


def run(*arguments):
    app = typer.Typer(rich_markup_mode=None)
    app.command()(export)
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.mark.parametrize("options", [[], ["--batch"]])
def test_a_run_becomes_a_file(options, run_folder, recwarn, monkeypatch):
    kept, path = [], run_folder / "model.pt"
    monkeypatch.setattr(allocator, "_set", kept.append)
    options += ["--format", "torchscript", "--score-threshold", 0.3]
    done = run(run_folder, "--output", path, *options)
    assert done.exit_code == 0, done.exception
    assert kept
    assert f"{path}, against the detector:" in done.output
    assert "200 x 360: 0 detections" in done.output
    assert not [w for w in recwarn if issubclass(w.category, torch.jit.TracerWarning)]
    files = {METADATA: ""}
    torch.jit.load(path, _extra_files=files)
    about = json.loads(files[METADATA])
    assert about["batch"] is ("--batch" in options)
    assert about["score_threshold"] == 0.3 and about["preprocess"] == "inside"
    assert (about["min_size"], about["max_size"]) == (64, 128)
    assert about["class_names"] == ["circle", "square", "triangle"]


def test_what_is_refused(run_folder):
    done = run(run_folder, "--output", "x.onnx", "--preprocess", "both")
    assert done.exit_code == 2 and "'inside', 'outside'" in done.output
    done = run(run_folder, "--output", "x.onnx", "--format", "tflite")
    assert done.exit_code == 2 and "'onnx', 'openvino', 'torchscript'" in done.output
    done = run(QUICK, "--output", "x.onnx")
    assert "There are no weights" in str(done.exception)
    done = run(QUICK, "--weights", run_folder / "model_final.pth", "--output", "x.onnx")
    assert "refuses an incomplete detector" in str(done.exception)  # of a narrower one
