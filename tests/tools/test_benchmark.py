"""The benchmark's arithmetic, its rows, and its files; no statement on times."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

from benchmarking import report
from benchmarking.measure import Case, take_turns, to_rows
from benchmarking.training import saved_bytes

QUICK = "quick_schedules/{}_rcnn_ResNeSt_14_FPN_quick.yaml"


def test_ratios_from_given_times():
    cases = [
        Case("backbone", "plain", {"depth": 14}, print, flop=4e9),
        Case("backbone", "other", {"depth": 14}, print, parts={"RPN": [0.1, 0.3, 0.2]}),
    ]
    first, second = to_rows(cases, [[9.0, 2.0, 1.0], [0.5, 0.4, 7.0]], [0.5, 0.25], limit_size=1000)
    assert (first["seconds"], first["faster"]) == (2.0, 1.0)
    assert first["limit"] == pytest.approx(2e9 / 0.375)
    assert first["rate"] == 2e9 and first["share"] == pytest.approx(0.375)
    assert (second["seconds"], second["faster"], second["share"]) == (0.5, 4.0, None)
    assert second["parts"] == {"RPN": 0.2}


def test_cases_take_turns():
    order = []
    cases = [
        Case("", n, {}, lambda n=n: order.append(n), prepare=lambda n=n: order.append(n.upper()))
        for n in "ab"
    ]
    times, products = take_turns(cases, repeats=2, limit_size=8)
    assert "".join(order) == "AaBb" * 3  # the first round is the warm-up
    assert [len(own) for own in times] == [2, 2] and len(products) == 4


def test_saved_bytes_count_every_storage_once():
    weight = torch.rand(10, 20, requires_grad=True)
    x = torch.rand(5, 20, requires_grad=True)
    # x and weight for their product and once more, the product for its square, the sum as factor.
    assert saved_bytes(lambda: (x @ weight.T) ** 2 + (x * weight.sum()).sum()) == 4 * (
        5 * 20 + 10 * 20 + 5 * 10 + 1
    )


def test_lines_of_the_plots_vary_one_thing():
    rows = [
        {"what": "backbone", "model": "a", "seconds": depth + pixels, "setting": setting}
        for depth, pixels in ((14, 4), (14, 1), (50, 4))
        for setting in [{"depth": depth, "pixels": pixels, "size": f"1x{pixels}"}]
    ]
    assert report.series(rows, "pixels", "seconds") == {"backbone: a": [(1, 15), (4, 18)]}
    assert report.series(rows, "depth", "seconds") == {"backbone: a": [(14, 18), (50, 54)]}


def test_rows_and_files(tmp_path, capsys):
    from benchmark import main

    arguments = ["--what", "backbone", "detector", "training", "--size", "64x96", "--depth", "14"]
    arguments += ["--proposals", "20", "--config", QUICK.format("mask"), "--backends", "plain"]
    arguments += ["--train-config", QUICK.format("faster"), "--train-size", "64x96"]
    arguments += ["--checkpoint", "none", "--batch", "1", "2", "--repeats", "1", "--threads", "1"]
    assert main([*arguments, "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "Skipped: torchvision ResNet: has no ResNet-14" in printed
    rows = json.loads((tmp_path / "benchmark.json").read_text())
    ours = [(r["what"], r["model"]) for r in rows if r["model"] != "timm"]
    assert ours == [
        ("backbone", "ours, plain"),
        ("detector", "ours, plain"),
        ("training", "checkpoint none"),
        ("training", "checkpoint none"),
    ]
    assert all(0 < row["share"] and row["flop"] > 1e8 for row in rows)
    (detector,) = (row for row in rows if row["what"] == "detector")
    assert detector["setting"]["proposals"] == 20
    assert set(detector["parts"]) == {
        "backbone and FPN",
        "RPN",
        "pooling",
        "box head",
        "mask head",
    }
    assert sum(detector["parts"].values()) < detector["seconds"]
    one, two = (row["saved"] for row in rows if row["what"] == "training")
    assert 1.2 * one < two < 2 * one  # the parameters are in both
    lines = (tmp_path / "benchmark.txt").read_text().splitlines()
    assert lines[0].split()[:3] == ["what", "of", "model"]
    assert sum(line.startswith(("backbone ", "detector ", "training ")) for line in lines) == len(
        rows
    )
    assert cv2.imread(str(tmp_path / "benchmark.png")).shape == (1000, 1400, 3)


def test_too_many_proposals_for_the_picture(tmp_path):
    from benchmark import main

    arguments = ["--what", "detector", "--size", "64x64", "--depth", "14", "--backends", "plain"]
    arguments += ["--config", QUICK.format("mask"), "--proposals", "9000"]
    with pytest.raises(ValueError, match="proposals, not 9000; choose a larger --size"):
        main([*arguments, "--output", str(tmp_path)])


def test_a_size_that_is_none(capsys):
    from benchmark import main

    with pytest.raises(SystemExit):
        main(["--size", "800"])
    assert "got '800'; give height x width, e.g. 800x1216" in capsys.readouterr().err


def test_scoring_without_the_library(monkeypatch, coco_files):
    from benchmarking import scoring

    monkeypatch.setattr(scoring, "has_fast_scoring", lambda: False)
    reasons = {}
    cases = next(scoring.scoring_settings(coco_files()[0], reasons.__setitem__))
    assert [(c.what, c.model, c.setting["of"]) for c in cases] == [
        ("scoring", "pycocotools", "boxes")
    ]
    assert "pip install 'resnest-d2[fast-eval]'" in reasons["faster-coco-eval"]
    cases[0].prepare()
    assert 0 < cases[0].run()["bbox"]["AP"] < 100


def test_activations_are_neither_lost_nor_blown_up():
    from benchmarking.models import build_detector, pictures, settle

    model = build_detector(QUICK.format("mask"), depth=14)
    with torch.no_grad():
        for name, features in settle(model.backbone)(pictures((96, 128))).items():
            assert 0.1 < features.std() < 10, name


def test_optimised_forms_stand_beside_the_plain_model(monkeypatch):
    from benchmarking.models import backbone_cases

    def optimize_for_inference(model, *, backend):
        if backend == "openvino":
            raise ImportError("pip install 'resnest-d2[openvino]'")
        return torch.nn.Sequential(model)

    deploy = SimpleNamespace(optimize_for_inference=optimize_for_inference)
    monkeypatch.setitem(sys.modules, "resnest_d2.deploy", deploy)
    reasons = {}
    backends = ["plain", "eager", "openvino"]
    skip = reasons.__setitem__
    cases = backbone_cases((64, 64), depth=14, backends=backends, skip=skip)
    assert [case.model for case in cases][:2] == ["ours, plain", "ours, eager"]
    assert cases[0].flop == cases[1].flop > 1e8
    plain, eager = (case.run() for case in cases[:2])
    torch.testing.assert_close(plain["res5"], eager["res5"])
    assert reasons["ours, openvino"] == "pip install 'resnest-d2[openvino]'"
