"""Reports of a real training: every evaluation in them, and which weights their numbers are of."""

import json
import re

import pytest

from resnest_d2.engine import Trainer, trainer
from resnest_d2.report.gather import read_run
from resnest_d2.report.training import ap_lines, training_figures


@pytest.fixture
def train(tiny_cfg, tmp_path, monkeypatch):
    """A function that trains, with the AP of its evaluations, and returns what reports showed."""
    scored, reports = [], []

    def run(aps, **keys):
        values = iter(aps)

        def test(cfg, model, evaluators=None):
            results = true_test(cfg, model, evaluators)
            results["bbox"]["AP"] = next(values)
            scored.append(results["bbox"]["AP"])
            trainer.publish({"tiny": results}, cfg)
            return results

        def report(cfg):
            true_report(cfg)
            page = (tmp_path / "out/report.html").read_text()
            reports.append((read_run(cfg.OUTPUT_DIR), " ".join(page.split())))

        true_test, true_report = Trainer.test, trainer.report
        monkeypatch.setattr(Trainer, "test", staticmethod(test))
        monkeypatch.setattr(trainer, "report", report)
        cfg = tiny_cfg(MODEL__MASK_ON=False, **keys)
        (tmp_path / "out/config.yaml").write_text(cfg.dump())
        Trainer(cfg).train()
        assert scored == list(aps)
        return reports

    return run


def test_every_evaluation_is_in_the_reports(train, tmp_path):
    aps = [10.0, 20.0, 70.0, 30.0, 40.0, 50.0, 60.0]
    keys = {"SOLVER__MAX_ITER": 21, "TEST__EVAL_PERIOD": 3, "TEST__VALIDATION_LOSS": True}
    reports = train(aps, **keys)
    steps = [3, 6, 9, 12, 15, 18, 21]
    lines = [json.loads(line) for line in (tmp_path / "out/metrics.json").open()]
    points = [(line["iteration"], line["bbox/AP"]) for line in lines if "bbox/AP" in line]
    assert points == list(zip([2, 5, 8, 11, 14, 17, 21], aps, strict=True))  # detectron2's numbers
    for number, (run, page) in enumerate(reports, 1):
        if number > 1:
            (curve,) = ap_lines(run)
            assert (curve.x, curve.y) == (steps[:number], aps[:number])
        trained = re.search(r"<dt>Trained</dt><dd>(.*?)</dd>", page)[1]
        assert trained == f"{steps[number - 1]} iterations" + (" of 21" if number < 7 else "")
        best = max(range(number), key=aps.__getitem__)
        assert run.results["tiny"]["bbox"]["AP"] == aps[best]
        assert f"Scores of model_best.pth, after {steps[best]} iterations" in page
        assert bool(run.last) == (best != number - 1)
        if run.last:
            assert run.last["tiny"]["bbox"]["AP"] == aps[number - 1]
            name = "model_final.pth" if number == 7 else "the weights in training"
            text = (
                f"Scores of {name}, after {steps[number - 1]} iterations, the last evaluation: box"
            )
            assert text in page
    assert len(reports) == 7
    run, _ = reports[-1]
    assert [figure.title for figure in training_figures(run)] == [
        "Losses",
        "AP by iteration",
        "Learning rate",
    ]
    assert "validation/total_loss" in run.history[2]


def test_detections_in_the_report_are_of_the_best_weights(train, tmp_path):
    train(
        [20.0, 10.0],
        SOLVER__MAX_ITER=2,
        TEST__EVAL_PERIOD=1,
        MODEL__ROI_HEADS__SCORE_THRESH_TEST=0.0,
    )
    run = read_run(str(tmp_path / "out"))
    assert run.detections == "inference_best"
    path = "tiny/coco_instances_results.json"
    best, last = (
        json.loads((tmp_path / "out" / folder / path).read_text())
        for folder in ("inference_best", "inference")
    )
    assert best != last


def test_after_an_early_stop(train):
    reports = train(
        [20.0, 10.0],
        SOLVER__MAX_ITER=9,
        TEST__EVAL_PERIOD=1,
        SOLVER__EARLY_STOPPING__ENABLED=True,
        SOLVER__EARLY_STOPPING__PATIENCE=1,
        MODEL__EMA__ENABLED=True,
    )
    page = reports[-1][1]
    assert "<dt>Trained</dt><dd>2 iterations of 9</dd>" in page
    assert "Scores of model_best.pth, after 1 iterations, moving average: the best" in page
    assert "Scores of model_final.pth, after 2 iterations, moving average, the last" in page


def test_without_a_better_one_the_last_is_the_best(train):
    page = train([10.0, 20.0], SOLVER__MAX_ITER=2, TEST__EVAL_PERIOD=1)[-1][1]
    assert "Scores of model_best.pth and model_final.pth, after 2 iterations." in page
    assert "the last evaluation" not in page
