"""Every kind of output is written whole or not at all: no file may grow beyond a few kilobytes."""

import json
import resource
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

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
from resnest_d2.data.convert import export_data, import_data
from resnest_d2.data.validate import check_data, fix_data
from resnest_d2.deploy.export.formats import FORMATS, Graph
from resnest_d2.engine.metrics import publish
from resnest_d2.files import WriteError, whole_file, write_json_files, writing
from resnest_d2.inference.saving import Drawings, JsonRecords
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


def two_json_files_at_their_end(path):
    """The last bytes of the first do not fit, which shows itself when it is closed."""
    write_json_files({str(path): [0] * 7000, str(path.parent / "beside.json"): [1]})


def result_json(path):
    cfg = SimpleNamespace(OUTPUT_DIR=str(path.parent), TEST=SimpleNamespace(DETECTIONS_PER_IMAGE=9))
    publish({"val": {"bbox": {f"AP-{i}": float(i) for i in range(2000)}}}, cfg)


def predictions(path):
    saver = JsonRecords(path.parent)
    record = {"category_id": 1, "bbox": [0.5, 0.5, 9.0, 9.0], "score": 0.5}
    found = {"to_coco": lambda image_id: [record] * 500, "frame": None, "path": "a.png"}
    saver.add(SimpleNamespace(**found), 1)
    saver.close()


def drawings(path):
    found = {"draw": lambda: Image.fromarray(NOISE), "frame": None, "name": f"{path.stem}.png"}
    Drawings(path.parent).add(SimpleNamespace(**found), 1)


def repaired(path):
    """As check-data --fix, of a file that has no spaces and therefore fits."""
    size = {"width": 160, "height": 160}
    images = [{"id": i, "file_name": f"{i}.png", **size} for i in (1, 2, 3)]
    fields = {"category_id": 1, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0}
    objects = [{"id": i, "image_id": i % 3 + 1, **fields} for i in range(230)]
    data = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "cat"}]}
    with TemporaryDirectory() as folder:
        for i in (1, 2, 3):
            Image.new("RGB", (160, 160), (i, 0, 0)).save(f"{folder}/{i}.png")
        json_file = Path(folder, "a.json")
        json_file.write_text(json.dumps(data, separators=(",", ":")))
        fix_data(check_data([(str(json_file), folder)]), [str(path)], overwrite=True)


def imported(path):
    shape = {"label": "cat", "points": [[1, 1], [9, 9]], "shape_type": "rectangle"}
    data = {"imagePath": "a.png", "imageHeight": 160, "imageWidth": 160, "shapes": [shape] * 200}
    with TemporaryDirectory() as folder:
        Image.new("RGB", (160, 160)).save(f"{folder}/a.png")
        Path(folder, "a.json").write_text(json.dumps(data, separators=(",", ":")))
        import_data("labelme", [folder], output=str(path), overwrite=True)


def torchscript(path):
    with writing(path):
        graph = Graph(nn.Linear(100, 100), (torch.zeros(1, 100),), ["x"], {}, half=False)
        FORMATS["torchscript"].write(graph, path.parent / "new")


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
    "the end of json": (two_json_files_at_their_end, "val.json"),
    "drawing": (drawing, "a.png"),
    "jpeg": (jpeg, "a.jpg"),
    "metrics": (result_json, "results.json"),
    "predictions": (predictions, "predictions.json"),
    "drawings": (drawings, "a.jpg"),
    "check-data --fix": (repaired, "clean.json"),
    "import-data": (imported, "train.json"),
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
