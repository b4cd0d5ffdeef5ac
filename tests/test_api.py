"""Training, evaluation and export as a program or a notebook calls them."""

import json

import pytest
from small import FASTER, KEYS, write_data

import resnest_d2
from resnest_d2.deploy.export import FileDetector
from resnest_d2.errors import MissingFileError, UserError


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    write_data(folder / "own")
    write_data(folder / "other")
    write_data(folder / "elsewhere" / "own")
    return folder


@pytest.fixture(scope="module")
def run(data):
    """A training whose folder of images is found."""
    return resnest_d2.train(
        FASTER.removesuffix(".yaml"),
        data=data / "own" / "train.json",
        val=data / "own" / "val.json",
        output=data / "run",
        opts=[*KEYS, "MODEL.DEVICE", "cpu"],
    )


def test_a_run_has_its_scores_and_files(run, data):
    results = json.loads((data / "run" / "results.json").read_text())
    assert run.results == results
    assert run.box_ap == results["own_val"]["bbox"]["AP"] and run.mask_ap is None
    assert run.report == data / "run" / "report.html"
    assert run.weights == data / "run" / "model_best.pth"
    assert repr(run) == f"Run({data / 'run'}: box AP {run.box_ap:.1f})"
    assert repr(resnest_d2.Run(data / "run")) == repr(run)


def test_a_run_predicts(run, data):
    image = next((data / "own" / "images").glob("val*"))
    prediction = run.predictor(device="cpu", score_threshold=0.01)(image)
    assert prediction.metadata.thing_classes == ["circle", "square", "triangle"]
    assert len(prediction) > 0


def test_a_run_is_evaluated_on_other_data(run, data):
    tested = run.evaluate(data=data / "other" / "val.json", opts=["MODEL.DEVICE", "cpu"])
    assert tested.folder == data / "run" / "eval"
    assert [*tested.results] == ["other_val"]
    assert tested.box_ap == pytest.approx(run.box_ap)  # the same images
    with pytest.raises(UserError, match=r"eval/results.json exists"):
        resnest_d2.evaluate(data / "run", output=data / "run" / "eval")


def test_data_of_the_same_name_is_other_data(run, data):
    path = data / "elsewhere" / "own" / "val.json"
    content = json.loads(path.read_text())
    content["annotations"] = content["annotations"][:1]
    path.write_text(json.dumps(content))
    tested = run.evaluate(data=path, output=data / "few", opts=["MODEL.DEVICE", "cpu"])
    assert [*tested.results] == [*run.results] == ["own_val"]
    assert tested.box_ap != run.box_ap


def test_a_second_training_of_the_process_is_its_own(run, data):
    before = (data / "run" / "log.txt").read_text()
    second = resnest_d2.train(
        FASTER,
        data=(data / "other" / "train.json", data / "other" / "images"),
        output=data / "second",
        weights=run.folder,
        opts=[*KEYS, "MODEL.DEVICE", "cpu"],
    )
    assert (second.box_ap, second.results, second.report) == (None, {}, None)
    assert (data / "run" / "log.txt").read_text() == before
    assert "other/train.json" in (data / "second" / "config.yaml").read_text()
    assert str(run.weights) in (data / "second" / "log.txt").read_text()


def test_a_run_is_exported(run, data):
    pytest.importorskip("onnxruntime")
    report = run.export(data / "run.onnx", format="onnx")
    assert (data / "run.onnx").is_file() and report.differences


def test_a_run_is_quantized_and_used(run, data, capsys):
    pytest.importorskip("nncf")
    val = data / "own" / "val.json"
    with pytest.raises(MissingFileError, match=r"no .*/run/int8.xml; write it with"):
        run.predictor(device="cpu", precision="int8")
    report = run.export(precision="int8", calibration=val, calibration_images=3, check=val)
    assert "Average Precision" not in capsys.readouterr().out  # of pycocotools; it is in the report
    assert report.path == run.folder / "int8.xml"
    assert report.before["bbox"]["AP"] == pytest.approx(run.box_ap)
    assert report.after.keys() == report.before.keys()
    predictor = run.predictor(device="cpu", precision="int8", score_threshold=0.01)
    assert isinstance(predictor.model, FileDetector) and predictor.model.score_threshold == 0.01
    image = next((data / "own" / "images").glob("val*"))
    exact = run.predictor(device="cpu", score_threshold=0.01)(image)
    found = predictor(image)
    assert found.instances.image_size == exact.instances.image_size and len(found) > 0
    assert found.boxes.max() > 20  # in pixels of the image
    keys = ["MODEL.DEPLOY.ENABLED", True, "MODEL.DEPLOY.PRECISION", "int8", "MODEL.DEVICE", "cpu"]
    tested = run.evaluate(data=val, output=data / "quantized", opts=keys)
    assert tested.box_ap == pytest.approx(report.after["bbox"]["AP"], abs=0.01)
    with pytest.raises(UserError, match="int8.xml exists"):
        run.export(precision="int8", calibration=val)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: resnest_d2.export(d / "run"), "Give the file to write; only int8 of a run"),
        (
            lambda d: resnest_d2.export(d / "run", format="onnx", precision="int8"),
            "int8.xml is OpenVINO's; give a file to write for the format onnx",
        ),
        (
            lambda d: resnest_d2.export(d / "run", d / "x.onnx", calibration=d / "a.json"),
            "calibration is for int8 alone, and precision is 'fp32'",
        ),
        (
            lambda d: resnest_d2.export(d / "run", d / "x.onnx", calibration_images=0),
            "calibration_images is 0; choose 1 or more",
        ),
        (lambda d: resnest_d2.train(FASTER, val=d / "a.json"), "val is given without data"),
        (lambda d: resnest_d2.train("faster_s5"), "no detector, config or run 'faster_s5'"),
        (lambda d: resnest_d2.train(d / "run"), "is a run: give resume to continue it"),
        (
            lambda d: resnest_d2.train(FASTER, epochs=3, opts=["SOLVER.EPOCHS", 4]),
            "epochs and SOLVER.EPOCHS both set it|epochs and SOLVER.EPOCHS both set",
        ),
        (lambda d: resnest_d2.train(FASTER, image_size=0), "image_size is 0"),
        (lambda d: resnest_d2.evaluate(d / "nothing"), "no detector, config or run"),
    ],
)
def test_mistakes_name_the_argument(call, message, run, data):
    with pytest.raises(UserError, match=message):
        call(data)


def test_a_folder_without_config_is_no_run(tmp_path):
    with pytest.raises(MissingFileError, match="without config.yaml"):
        resnest_d2.Run(tmp_path)
