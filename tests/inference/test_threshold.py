"""Which score threshold a prediction has, and why."""

import json

import pytest

from resnest_d2.errors import UserError
from resnest_d2.inference import choose_threshold
from resnest_d2.inference.threshold import FILE
from resnest_d2.model_zoo import load_config
from resnest_d2.report import threshold

CONFIG = "quick_schedules/faster_rcnn_ResNeSt_14_FPN_quick.yaml"
KEY = "MODEL.ROI_HEADS.SCORE_THRESH_TEST"


@pytest.fixture
def run(tmp_path):
    cfg = load_config(CONFIG)
    cfg.DATASETS.TEST, cfg.MODEL.ROI_HEADS.NUM_CLASSES = ("cells_val", "cells_test"), 3
    (tmp_path / "config.yaml").write_text(cfg.dump())
    (tmp_path / "model_best.pth").touch()
    return tmp_path


def keep(run, thresholds):
    threshold.keep_thresholds(str(run), thresholds, "model_best.pth, after 90 iterations")


def test_the_file_is_one(run):
    assert threshold.FILE == FILE
    keep(run, {})
    assert not (run / FILE).exists()


@pytest.mark.parametrize("model", ["folder", "checkpoint"])
def test_a_run_has_its_own(model, run):
    keep(run, {"cells_test": 0.9, "cells_val": 0.43217})
    found = choose_threshold(run if model == "folder" else run / "model_best.pth")
    assert found.value == 0.4321  # below the score that has the best F1, which is kept
    assert found.note == (
        f"Score threshold 0.4321, which the report of {run} recommends (best F1 on cells_val, "
        "model_best.pth, after 90 iterations)."
    )
    keep(run, {"other": 0.5})
    assert choose_threshold(run).value == 0.4999
    keep(run, {"other": 0.0})
    assert choose_threshold(run).value == 0


def test_what_is_given_counts(run):
    keep(run, {"cells_val": 0.43})
    assert choose_threshold(run, given=0.05).value == 0.05
    opts = [KEY, 0.2]
    assert choose_threshold(run, opts=opts) == (None, f"Score threshold of {KEY}, as given.")
    default = (0.5, "Score threshold 0.5, the default.")
    assert choose_threshold(run, weights="other.pth") == default
    assert choose_threshold(run, opts=["MODEL.WEIGHTS", "other.pth"]) == default
    (run / FILE).unlink()
    for model in (run, CONFIG, load_config(CONFIG), "faster_rcnn_s50"):
        assert choose_threshold(model) == default


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"thresholds": {}}', '{"thresholds": {"a": 2}}', '{"thresholds": "a"}']
)
def test_another_file_is_refused(content, run):
    (run / FILE).write_text(content)
    with pytest.raises(UserError, match="threshold.json has no score thresholds from 0 to 1"):
        choose_threshold(run)
    (run / FILE).write_text("{")
    with pytest.raises(UserError, match="threshold.json is not JSON"):
        choose_threshold(run)


def test_the_predictor_takes_it(run, monkeypatch):
    from resnest_d2.inference import Predictor, predictor

    built = []
    monkeypatch.setattr(predictor, "build_trained", built.append)
    keep(run, {"cells_val": 0.43})
    cases = [({}, 0.4299), ({"score_threshold": 0.05}, 0.05), ({"opts": [KEY, 0.2]}, 0.2)]
    for options, expected in cases:
        one = Predictor(run, backend="plain", device="cpu", **options)
        assert one.score_threshold == built[-1].MODEL.ROI_HEADS.SCORE_THRESH_TEST == expected
    assert Predictor(CONFIG, backend="plain", device="cpu").score_threshold == 0.5


def test_keys_are_read_as_json(run):
    keep(run, {"cells_val": 0.43})
    assert json.loads((run / FILE).read_text())["thresholds"] == {"cells_val": 0.4299}
