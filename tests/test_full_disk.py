"""Every kind of output is written whole or not at all: no file may grow beyond a few kilobytes."""

import json
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.evaluation import coco_evaluation
from PIL import Image
from torch import nn

from resnest_d2.checkpoint.convert import Conversion, write_checkpoint
from resnest_d2.checkpoint.saving import SavingCheckpointer
from resnest_d2.compat.evaluators import writing_whole_results
from resnest_d2.data import shapes
from resnest_d2.data.convert import export_data
from resnest_d2.deploy.export.formats import FORMATS
from resnest_d2.files import WriteError, whole_file, write_json_files, writing
from resnest_d2.inference.video import VideoWriter
from resnest_d2.report.html import write_page

LARGEST = 20_000  # bytes
NOISE = np.random.default_rng(0).integers(0, 256, (160, 160, 3), np.uint8)
WEIGHTS = {"stem.weight": torch.zeros(10_000)}


def converted(path):
    write_checkpoint(Conversion(WEIGHTS, "authors", "detectron2", 50, 0, (), ()), path)


def checkpoint(path):
    SavingCheckpointer(nn.Linear(100, 100), str(path.parent)).save_weights(str(path))


def drawing(path):
    with whole_file(path) as file:
        Image.fromarray(NOISE).save(file, "PNG")


def jpeg(path):
    with whole_file(path) as file:  # Pillow would write it in one piece, and not see how much was
        Image.fromarray(NOISE).save(file, "JPEG", quality=95)


def two_json_files(path):
    write_json_files({str(path.parent / "beside.json"): [1], str(path): [0] * LARGEST})


def torchscript(path):
    with writing(path):
        module, inputs = nn.Linear(100, 100), (torch.zeros(1, 100),)
        FORMATS["torchscript"].write(module, inputs, path.parent / "new", outputs=3, metadata={})


def evaluators_results(path):
    """As COCOEvaluator writes its results."""
    with writing_whole_results(), coco_evaluation.PathManager.open(str(path), "w") as file:
        file.write("x" * LARGEST * 2)


def video(path):
    writer = VideoWriter(path, 25)
    try:
        for shift in range(40):
            writer.add(Image.fromarray(np.roll(NOISE, 7 * shift, axis=1)))
    finally:
        writer.close()


WRITERS = {
    "results": (evaluators_results, "coco_instances_results.json"),
    "text": (lambda path: write_page("x" * LARGEST * 2, path), "report.html"),
    "json": (two_json_files, "val.json"),
    "drawing": (drawing, "a.png"),
    "jpeg": (jpeg, "a.jpg"),
    "torch": (converted, "a.pth"),
    "safetensors": (converted, "a.safetensors"),
    "checkpoint": (checkpoint, "model_final.pth"),
    "video": (video, "v.mp4"),
}


@pytest.fixture
def full_disk():
    """Files of more than some bytes fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_that_does_not_fit_leaves_the_old_one(kind, tmp_path, full_disk):
    write, name = WRITERS[kind]
    (tmp_path / name).write_text("before")
    with pytest.raises(WriteError, match=f"{name} cannot be written .*File too large.*MB free"):
        write(tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "before"


def test_an_export_that_does_not_fit_is_a_failed_write(tmp_path, full_disk):
    with pytest.raises(WriteError, match="a.pt cannot be written .*File too large"):
        torchscript(tmp_path / "a.pt")


def test_a_data_set_that_does_not_fit_leaves_no_folder(tmp_path, monkeypatch, full_disk):
    monkeypatch.setenv("RESNEST_D2_CACHE", str(tmp_path / "cache"))
    with pytest.raises(WriteError, match="shapes-v1.* cannot be written .*File too large"):
        shapes.prepare_shapes()
    assert not [p for p in (tmp_path / "cache").iterdir() if p.is_dir()]


def test_an_exported_data_set_that_does_not_fit_leaves_the_old_one(tmp_path, request):
    Image.fromarray(NOISE).save(tmp_path / "a.png")
    image = {"id": 1, "file_name": "a.png", "width": 160, "height": 160}
    data = {"images": [image], "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "train.json").write_text(json.dumps(data))
    out = tmp_path / "out"
    out.mkdir()
    (out / "data.yaml").write_text("before")
    request.getfixturevalue("full_disk")
    pairs = [(str(tmp_path / "train.json"), str(tmp_path))]
    with pytest.raises(WriteError, match="out cannot be written .*File too large"):
        export_data(pairs, "yolo", output=str(out), overwrite=True)
    assert {p.name for p in Path(tmp_path).iterdir()} == {"a.png", "train.json", "out"}
    assert [p.read_text() for p in out.iterdir()] == ["before"]
