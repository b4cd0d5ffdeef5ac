"""What a run prints at its end, out of the files that it has written."""

import json
import logging

import pytest

from resnest_d2 import get_cfg
from resnest_d2.engine.console import RESULT, SHOWN
from resnest_d2.engine.summary import show_beginning, show_evaluation, show_training


@pytest.fixture
def told(monkeypatch):
    """What is logged: text and extra of each record."""
    records = []
    logger = logging.getLogger("resnest_d2.engine.summary")
    monkeypatch.setattr(logger, "info", lambda text, extra: records.append((text, extra)))
    return records


@pytest.fixture
def cfg(tmp_path):
    cfg = get_cfg()
    cfg.OUTPUT_DIR, cfg.DATASETS.TEST = str(tmp_path), ("val",)
    results = {"val": {"bbox": {"AP": 41.987, "APs": None, "AP-cat": 1.0, "AP-dog": None}}}
    (tmp_path / "results.json").write_text(json.dumps(results))
    (tmp_path / "report.html").write_text("")
    best = {"metric": "bbox/AP", "value": 42.5, "iteration": 7}
    (tmp_path / "best.json").write_text(json.dumps(best))
    return cfg


def test_a_training_begins(told):
    show_beginning([("classes", "3")], starts_from="a.pth: 7 tensors", folder="out")
    (text, extra) = told[0]
    assert extra is SHOWN
    assert [line.split(None, 1) for line in text.splitlines()] == [
        ["classes", "3"],
        ["weights", "a.pth: 7 tensors"],
        ["log", "out/log.txt"],
    ]


def test_a_training_ends(cfg, told, tmp_path):
    show_training(cfg)
    (text, extra) = told[0]
    assert extra is RESULT and "AP-" not in text and "cat" not in text
    title, heading, _, row, _, *rest = text.strip().splitlines()
    assert title == "Average precision, percent, at up to 100 detections per image:"
    assert row.replace(" ", "") == "|val|box|41.99|-|-|-|-|-|"
    assert [line.split(None, 2) for line in rest] == [
        ["weights", f"{tmp_path}/model_final.pth"],
        ["best", "weights", f"{tmp_path}/model_best.pth (box AP 42.50 at iteration 7)"],
        ["report", f"{tmp_path}/report.html"],
    ]


def test_a_training_without_evaluation_ends(cfg, told, tmp_path):
    cfg.DATASETS.TEST = ()  # whatever an earlier run has left
    show_training(cfg)
    assert told[0][0].split() == ["weights", f"{tmp_path}/model_final.pth"]


def test_an_evaluation_ends(cfg, told, tmp_path):
    cfg.TEST.REPORT = False
    show_evaluation(cfg)
    text, extra = told[0]
    assert extra is RESULT and text.count("41.99") == 1 and "report" not in text
    rows = [line.replace(" ", "") for line in text.splitlines() if "|" in line]
    assert rows[-2:] == ["|cat|1.00|", "|dog|-|"]
    assert text.splitlines()[-1] == f"results  {tmp_path}/results.json"
