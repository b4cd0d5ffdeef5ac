"""The predict command: what it writes, and its exit codes."""

import json

import numpy as np
import pytest
import torch
import typer
from detectron2.data.catalog import Metadata
from detectron2.structures import Boxes, Instances
from PIL import Image
from typer.testing import CliRunner

from resnest_d2.cli import predict as module
from resnest_d2.deploy.cpu import allocator
from resnest_d2.inference import Failure, Prediction, Stream
from resnest_d2.inference.sources import open_source

RED = (255, 0, 0)


class FakePredictor:
    """One box on every image; a text file is a failure."""

    def __init__(self, model, **options):
        FakePredictor.given = (model, options)

    def stream(self, source):
        return Stream(open_source(source), self.work, chunk=1, workers=1)

    def work(self, images):
        try:
            height, width = images[0].read("RGB").shape[:2]
        except OSError as error:
            return [Failure(images[0].path, str(error))]
        found = Instances((height, width))
        found.pred_boxes = Boxes(torch.tensor([[2.0, 3, 12, 23]]))
        found.scores, found.pred_classes = torch.tensor([0.75]), torch.tensor([0])
        metadata = Metadata(thing_classes=["cat"], category_ids=[17])
        return [Prediction(images[0], found, metadata)]


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.setattr("resnest_d2.inference.Predictor", FakePredictor)
    app = typer.Typer(rich_markup_mode=None)
    app.command()(module.predict)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (40, 30), RED).save(tmp_path / name / "a.png")

    def call(*options):
        folders = [str(tmp_path / "one"), str(tmp_path / "two")]
        arguments = ["mine", *folders, "--score-threshold", "0.25"]
        arguments += ["--output", str(tmp_path / "out"), *options]
        return CliRunner().invoke(app, arguments)

    return call


def test_writes_images_and_records(run, tmp_path):
    result = run()
    assert result.exit_code == 0 and "2 images processed" in result.output
    records = json.loads((tmp_path / "out" / "predictions.json").read_text())
    box = {"category_id": 17, "bbox": [2, 3, 10, 20], "score": 0.75}
    paths = [str(tmp_path / name / "a.png") for name in ("one", "two")]
    assert records == [{"image_id": i, **box, "file_name": p} for i, p in enumerate(paths, 1)]
    for name in ("a.jpg", "a_2.jpg"):
        drawn = np.asarray(Image.open(tmp_path / "out" / name)).astype(int)
        assert drawn.shape == (30, 40, 3) and np.abs(drawn - RED).max() > 50


@pytest.mark.parametrize(("device", "kept"), [("cpu", True), ("cuda:1", False)])
def test_freed_memory_is_kept_on_a_cpu(run, monkeypatch, device, kept):
    calls = []
    monkeypatch.setattr(allocator, "_set", lambda options: calls.append("kept"))
    monkeypatch.setattr(FakePredictor, "stream", lambda self, source: calls.append("begun"))
    run("--device", device)
    assert calls == ["kept", "begun"] if kept else ["begun"]


def test_failures_end_in_1_and_leave_the_rest(run, tmp_path):
    (tmp_path / "one" / "b.png").write_text("no image")
    result = run("--no-draw", "--no-save-json")
    assert result.exit_code == 1 and "2 images processed" in result.output
    assert list((tmp_path / "out").iterdir()) == []


def test_hands_its_options_over(run):
    run()
    default = {"weights": None, "device": "auto", "backend": "eager", "score_threshold": 0.25}
    assert FakePredictor.given == ("mine", default)
    run("--overwrite", "--weights", "a.pth", "--device", "cuda:1", "--backend", "openvino")
    given = {"weights": "a.pth", "device": "cuda:1", "backend": "openvino"}
    assert FakePredictor.given == ("mine", {**default, **given})
    wrong = run("--backend", "fast", "--overwrite")
    assert wrong.exit_code == 2 and "is not one of 'eager', " in wrong.output


@pytest.mark.parametrize("source", ["two", "two/a.png"])
def test_never_writes_among_the_sources(source, run, tmp_path):
    before = (tmp_path / "two" / "a.png").read_bytes()
    Image.new("RGB", (40, 30), RED).save(tmp_path / "two" / "a.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "two")
    result = run(str(tmp_path / source), "--output", str(tmp_path / "link"))
    message = f"--output is {tmp_path / 'link'}, the folder of the source {tmp_path / 'two'}"
    assert message in str(result.exception)
    assert {p.name for p in (tmp_path / "two").iterdir()} == {"a.png", "a.jpg"}
    assert (tmp_path / "two" / "a.png").read_bytes() == before


def test_what_was_done_is_kept_when_it_is_stopped(run, tmp_path, monkeypatch):
    real = Prediction.draw

    def draw(self):
        if self.path.endswith("two/a.png"):
            raise KeyboardInterrupt
        return real(self)

    monkeypatch.setattr(Prediction, "draw", draw)
    assert run().exit_code == 130
    records = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [record["image_id"] for record in records] == [1, 2]


def test_a_image_gone_before_it_is_drawn_costs_only_itself(run, tmp_path, monkeypatch, caplog):
    real = Prediction.draw

    def draw(self):
        if self.path.endswith("one/a.png"):
            (tmp_path / "one" / "a.png").unlink()
        return real(self)

    monkeypatch.setattr(Prediction, "draw", draw)
    result = run()
    assert result.exit_code == 1 and f"{tmp_path / 'one' / 'a.png'}: it cannot be" in caplog.text
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_text())) == 2
    assert (tmp_path / "out" / "a.jpg").exists()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't allocate memory: 9 bytes")])
@pytest.mark.parametrize("step", ["draw", "to_coco"])
def test_an_image_too_large_to_draw_costs_only_itself(step, error, run, tmp_path, monkeypatch):
    real = getattr(Prediction, step)

    def failing(self, *args):
        if self.path.endswith("one/a.png"):
            raise error
        return real(self, *args)

    monkeypatch.setattr(Prediction, step, failing)
    result = run()
    assert result.exit_code == 1
    reason = "one/a.png could not be done: it cannot be drawn, there is not enough memory for it"
    assert reason in str(result.exception)
    records = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [r["image_id"] for r in records] == ([1, 2] if step == "draw" else [2])
    assert len(list((tmp_path / "out").glob("*.jpg"))) == 1


def test_results_are_replaced_only_if_asked(run, tmp_path):
    assert run().exit_code == 0
    before = (tmp_path / "out" / "predictions.json").read_bytes()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    again = run("--score-threshold", "0.9")
    assert again.exit_code == 1 and "out has files; give another output" in str(again.exception)
    assert (tmp_path / "out" / "predictions.json").read_bytes() == before
    assert run("--overwrite").exit_code == 0 and (tmp_path / "out" / "mine.txt").exists()
    assert run("--no-draw", "--no-save-json").exit_code == 0  # which writes nothing


def test_drawings_of_any_name_are_distinct_and_inside(run, tmp_path):
    names = ["A.png", "x" * 251 + ".png", "a\\..\\b.png"]
    for name in names:
        Image.new("RGB", (40, 30), RED).save(tmp_path / "one" / name)
    assert run().exit_code == 0
    drawn = {p.name.lower() for p in (tmp_path / "out").glob("*.jpg")}
    assert len(drawn) == 5 and {"a.jpg", "a_2.jpg", "a_3.jpg", "x" * 200 + ".jpg"} < drawn
    assert {p.name for p in tmp_path.iterdir()} == {"one", "two", "out"}
