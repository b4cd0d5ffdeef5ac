"""The predict command: what it writes, and its exit codes."""

import json
import re

import cv2
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

    def stream(self, source, *, every=1, track=False):
        FakePredictor.frames = (every, track)
        return Stream(open_source(source, every=every), self.work, chunk=1, workers=1)

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

    call.app = app
    return call


def test_writes_images_and_records(run, tmp_path):
    result = run()
    assert result.exit_code == 0
    assert f"{tmp_path / 'one'}: 1 image.\n" in result.output
    assert re.search(
        r"^2 images processed, [\d.e-]+ s each: 2 cat; the results", result.output, re.M
    )
    records = json.loads((tmp_path / "out" / "predictions.json").read_text())
    box = {"category_id": 17, "bbox": [2, 3, 10, 20], "score": 0.75}
    paths = [str(tmp_path / name / "a.png") for name in ("one", "two")]
    assert records == [{"image_id": i, **box, "file_name": p} for i, p in enumerate(paths, 1)]
    for name in ("a.jpg", "a_2.jpg"):
        drawn = np.asarray(Image.open(tmp_path / "out" / name)).astype(int)
        assert drawn.shape == (30, 40, 3) and np.abs(drawn - RED).max() > 50


def test_one_image_is_one(run, tmp_path):
    (tmp_path / "two" / "a.png").write_text("no image")
    assert re.search(r"^1 image processed, [\d.e-]+ s: 1 cat; ", run().output, re.M)


@pytest.mark.parametrize(("device", "kept"), [("cpu", True), ("cuda:1", False)])
def test_freed_memory_is_kept_on_a_cpu(run, monkeypatch, device, kept):
    calls = []
    monkeypatch.setattr(allocator, "_set", lambda options: calls.append("kept"))
    monkeypatch.setattr(FakePredictor, "stream", lambda self, s, **_: calls.append("begun"))
    run("--device", device)
    assert calls == ["kept", "begun"] if kept else ["begun"]


def test_failures_end_in_1_and_leave_the_rest(run, tmp_path):
    (tmp_path / "one" / "b.png").write_text("no image")
    result = run("--no-draw", "--no-save-json")
    assert result.exit_code == 1 and "2 images processed" in result.output
    assert list((tmp_path / "out").iterdir()) == []
    for name, others in (("c", " and 1 more image "), ("d", " and 2 more images ")):
        (tmp_path / "one" / f"{name}.png").write_text("no image")
        assert f"b.png{others}could not be done: " in str(run("--overwrite").exception)


def test_hands_its_options_over(run):
    run()
    default = {"weights": None, "device": "auto", "backend": "eager", "score_threshold": 0.25}
    default["precision"] = "auto"
    assert FakePredictor.given == ("mine", default)
    run(
        "--overwrite",
        "--weights",
        "a.pth",
        "--device",
        "cuda:1",
        "--backend",
        "openvino",
        "--precision",
        "bf16",
    )
    given = {"weights": "a.pth", "device": "cuda:1", "backend": "openvino", "precision": "bf16"}
    assert FakePredictor.given == ("mine", {**default, **given})
    assert FakePredictor.frames == (1, False)
    options = ("--classes", "cat, dog", "--max-det", "7", "--slice", "640", "--overlap", "0.3")
    run("--overwrite", *options, "--every", "3", "--track")
    given = {"only": ["cat", "dog"], "max_detections": 7, "slice_size": 640, "overlap": 0.3}
    assert FakePredictor.given == ("mine", {**default, **given})
    assert FakePredictor.frames == (3, True)
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
    for inside in ("two", f"{tmp_path}/t*/**/*.png", "two/../two"):
        result = run(str(tmp_path / inside), "--output", str(tmp_path / "two" / "new"))
        assert "/two/new, inside of the source" in str(result.exception)
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
    verb = {"draw": "drawn", "to_coco": "recorded"}[step]
    reason = f"one/a.png could not be done: it cannot be {verb}, there is not enough memory for it"
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


def test_the_default_threshold_is_said(run, tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("_BASE_: []\n")
    from resnest_d2.inference import Threshold

    chosen = Threshold(0.31, "Score threshold 0.31, which the report of run recommends.")
    asked = []

    def choose(model, *, given, weights):
        asked.append((model, given, weights))
        return chosen if given is None else Threshold(given, "as given")

    monkeypatch.setattr("resnest_d2.inference.choose_threshold", choose)
    assert chosen.note not in run().output and FakePredictor.given[1]["score_threshold"] == 0.25
    arguments = ["mine", str(tmp_path / "one"), "--output", str(tmp_path / "new")]
    result = CliRunner().invoke(run.app, arguments)
    assert f"{chosen.note}\n" in result.output and asked[-1] == ("mine", None, None)
    assert FakePredictor.given[1]["score_threshold"] == 0.31


@pytest.fixture
def video(tmp_path):
    """Twelve red frames of 64 x 48 pixels, 12 a second, and the options to predict on it alone."""
    path = tmp_path / "v.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 12, (64, 48))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no MJPG")
    for _ in range(12):
        writer.write(np.full((48, 64, 3), (0, 0, 255), np.uint8))
    writer.release()
    return path


def only(run, *arguments):
    words = [*map(str, arguments), "--score-threshold", "0.25"]
    return CliRunner().invoke(run.app, ["mine", *words])


def read_video(path):
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1][:, :, ::-1].astype(int))
    return frames, capture.get(cv2.CAP_PROP_FPS)


@pytest.mark.parametrize("every", [1, 3])
def test_a_video_gives_a_video(every, run, video, tmp_path):
    out = tmp_path / "out"
    result = only(run, video, "--output", out, "--every", every)
    assert result.exit_code == 0, result.output
    assert sorted(p.name for p in out.iterdir()) == ["predictions.json", "v.mp4"]
    frames, fps = read_video(out / "v.mp4")
    assert len(frames) == 12 // every and fps == 12 / every
    assert all(frame.shape == (48, 64, 3) for frame in frames)
    assert all(np.abs(frame - RED).max() > 50 for frame in frames)  # something is drawn
    assert f"v.mp4: {12 // every} frames (" in result.output
    records = json.loads((out / "predictions.json").read_text())
    names = [f"{video}#{i}" for i in range(0, 12, every)]
    assert [record["file_name"] for record in records] == names


def test_frames_as_images_have_padded_numbers(run, video, tmp_path):
    out = tmp_path / "out"
    assert only(run, video, video, "--output", out, "--every", 6, "--save-frames").exit_code == 0
    names = ["v_000000.jpg", "v_000000_2.jpg", "v_000006.jpg", "v_000006_2.jpg"]
    assert sorted(p.name for p in out.glob("*.jpg")) == names
    assert sorted(p.name for p in out.glob("*.mp4")) == ["v.mp4", "v_2.mp4"]
    assert len(read_video(out / "v_2.mp4")[0]) == 2


def test_a_video_that_is_stopped_keeps_what_there_is(run, video, tmp_path, monkeypatch):
    real = Prediction.draw

    def draw(self):
        if self.frame == 5:
            raise KeyboardInterrupt
        return real(self)

    monkeypatch.setattr(Prediction, "draw", draw)
    result = only(run, video, "--output", tmp_path / "out")
    assert result.exit_code == 130 and "6 images processed" in result.output
    assert len(read_video(tmp_path / "out" / "v.mp4")[0]) == 5
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_text())) == 6


def test_a_video_that_breaks_off_keeps_what_there_is(run, video, tmp_path, monkeypatch):
    from resnest_d2.inference import videos

    real = videos.read_frames
    monkeypatch.setattr(videos, "read_frames", lambda path, number, **k: real(path, 99, **k))
    result = only(run, video, "--output", tmp_path / "out")
    assert result.exit_code == 1
    assert "v.avi could not be done: the video breaks off after 12 of 99" in str(result.exception)
    assert len(read_video(tmp_path / "out" / "v.mp4")[0]) == 12


def test_a_camera_ends_by_ctrl_c_with_its_results(run, tmp_path, monkeypatch):
    class Camera:
        def __init__(self, number):
            self.number = 0

        def read(self):
            self.number += 1
            if self.number > 6:
                raise KeyboardInterrupt
            return True, np.full((48, 64, 3), (0, 0, 255), np.uint8)

        def get(self, key):
            return 10.0

        def release(self):
            pass

    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    result = only(run, "0", "--output", tmp_path / "out")
    monkeypatch.undo()
    assert result.exit_code == 0, result.output
    frames, fps = read_video(tmp_path / "out" / "camera_0.mp4")
    records = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert len(frames) == len(records) > 3 and fps == 10
    assert records[1]["file_name"] == "camera_0#1"


def test_no_drawing_no_video(run, video, tmp_path):
    assert only(run, video, "--output", tmp_path / "out", "--no-draw").exit_code == 0
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["predictions.json"]


def test_an_address_is_a_source(run, server, tmp_path):
    server.files["x/a.png"] = (tmp_path / "one" / "a.png").read_bytes()
    url = server.address("x/a.png")
    assert only(run, url, "--output", tmp_path / "out", "--save-labelme").exit_code == 0
    (record,) = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert record["file_name"] == url and (tmp_path / "out" / "a.jpg").exists()
    assert json.loads((tmp_path / "out" / "labelme" / "a.json").read_text())["imagePath"] == "a.jpg"
    assert len(server.asked) == 1
    missing = only(run, server.address("b.png"), "--output", tmp_path / "none")
    assert missing.exit_code == 1 and "b.png could not be done: " in str(missing.exception)


def test_ray_writes_shards_alone(run, tmp_path):
    options = (["--save-csv"], ["--save-labelme"], ["--track"], ["--every", "2"], ["--save-frames"])
    for option in (*options, ["--no-save-json"], ["--draw"]):
        result = run("--ray", "local", *option)
        assert result.exit_code == 1 and "--ray only writes shards" in str(result.exception)
    assert not (tmp_path / "out").exists()
