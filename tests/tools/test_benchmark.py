"""The benchmark's arithmetic, its rows, and its files; no statement on times."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.modeling import build_model

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

from benchmarking import report
from benchmarking.measure import Case, take_turns, to_rows
from benchmarking.training import saved_bytes

from resnest_d2 import load_config, register_datasets

TRAINING = [
    ("training", "none"),
    ("training", "none, published attention"),
    ("training", "none, as trainer"),
    ("training", "none, as trainer, bf16"),
]
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
    # The product for its square and its cosine, the sum as a factor, and the result.
    product = lambda: x @ weight.T  # noqa: E731
    assert saved_bytes(lambda: weight.sum() * (p := product()).cos().sum() + (p**2).sum()) == 4 * (
        5 * 10 + 1 + 1 + 1
    )


def test_lines_of_the_plots_vary_one_thing():
    rows = [
        {"what": "backbone", "model": "a", "seconds": depth + pixels, "setting": setting}
        for depth, pixels in ((14, 4), (14, 1), (50, 4))
        for setting in [{"depth": depth, "pixels": pixels, "size": f"1x{pixels}"}]
    ]
    rows += [{**rows[0], "what": "detector"}] * 2  # one place, measured twice, is no line
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
        ("backbone", "ours, plain, memory kept"),
        ("detector", "ours, plain"),
        ("detector", "ours, plain, memory kept"),
        *TRAINING,
        *TRAINING,
    ]
    assert all(0 < row["share"] and row["flop"] > 1e8 for row in rows)
    detector = next(row for row in rows if row["what"] == "detector")
    assert detector["setting"]["proposals"] == 20
    assert detector["setting"]["config"] == "mask_rcnn_ResNeSt_14_FPN_quick"
    assert set(detector["parts"]) == {
        "backbone and FPN",
        "RPN",
        "pooling",
        "box head",
        "mask head",
    }
    assert sum(detector["parts"].values()) < detector["seconds"]
    saved = [row["saved"] for row in rows if row["what"] == "training"]
    one, two = saved[0], saved[4]
    assert 1.5 * one < two < 2.1 * one
    # An image more takes about half of the bytes; the weights' copies are there once.
    assert 0.4 < (saved[7] - saved[3]) / (saved[6] - saved[2]) < 0.75
    assert all(r["saved_resnest"] < 0.9 * r["saved"] for r in rows if r["what"] == "training")
    lines = (tmp_path / "benchmark.txt").read_text().splitlines()
    assert lines[0].split()[:3] == ["what", "of", "model"]
    assert sum(line.startswith(("backbone ", "detector ", "training ")) for line in lines) == len(
        rows
    )
    assert cv2.imread(str(tmp_path / "benchmark.png")).shape == (1000, 1400, 3)


AUTHORS = """
from detectron2.modeling.backbone import BACKBONE_REGISTRY
from resnest_d2.modeling import build_resnest_backbone as ours

@BACKBONE_REGISTRY.register()
def build_resnest_backbone(cfg, input_shape):
    return ours(cfg, input_shape)
"""


def test_the_authors_code_takes_part(tmp_path, capsys):
    from benchmark import main

    package = tmp_path / "copy" / "resnest" / "d2"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(AUTHORS)
    arguments = ["--what", "backbone", "detector", "--size", "64x96", "--depth", "14"]
    arguments += ["--proposals", "20", "--config", QUICK.format("faster"), "--backends", "plain"]
    arguments += ["--repeats", "1", "--threads", "1", "--output", str(tmp_path / "out")]
    assert main([*arguments, "--peer", f"authors={package.parents[1]}"]) == 0
    rows = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    assert [r["what"] for r in rows if r["model"] == "authors"] == ["backbone", "detector"]
    assert main([*arguments, "--overwrite", "--peer", f"authors={tmp_path}"]) == 0
    assert f"Skipped: authors: there is no resnest/d2 in {tmp_path}" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*arguments, "--peer", "mmdet=there"])
    assert "got 'mmdet=there'; give authors=FOLDER" in capsys.readouterr().err


def test_append(tmp_path, monkeypatch):
    import benchmark

    for model in ("first", "second"):
        case = Case("backbone", model, {"depth": 14}, lambda: None)
        monkeypatch.setattr(benchmark, "settings", lambda *_, case=case: [[case]])
        options = ["--repeats", "1", "--append", "--output", str(tmp_path)]
        assert benchmark.main(options) == 0
    rows = json.loads((tmp_path / "benchmark.json").read_text())
    assert [row["model"] for row in rows] == ["first", "second"]


def test_too_many_proposals_for_the_image(tmp_path, capsys):
    from benchmark import main

    arguments = ["--what", "detector", "--size", "64x64", "--depth", "14", "--backends", "plain"]
    arguments += ["--config", QUICK.format("mask"), "--proposals", "9000"]
    assert main([*arguments, "--output", str(tmp_path)]) == 1
    assert "proposals, not 9000; choose a larger --size" in capsys.readouterr().err


def test_a_size_that_is_none(capsys):
    from benchmark import main

    with pytest.raises(SystemExit):
        main(["--size", "800"])
    assert "got '800'; give height x width, such as 800x1216" in capsys.readouterr().err


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
    from benchmarking.models import build_detector, images, settle

    model = build_detector(QUICK.format("mask"), depth=14)
    with torch.no_grad():
        for name, features in settle(model.backbone)(images((96, 128))).items():
            assert 0.1 < features.std() < 10, name


def test_optimised_forms_stand_beside_the_plain_model(monkeypatch):
    from benchmarking import models

    asked = []

    def optimize_for_inference(model, *, backend, precision):
        asked.append((backend, precision))
        if backend == "openvino":
            raise ImportError("pip install 'resnest-d2[openvino]'")
        return torch.nn.Sequential(model)

    monkeypatch.setattr(models, "optimize_for_inference", optimize_for_inference)
    reasons = {}
    backends = ["plain", "eager", "openvino", "eager:bf16"]
    skip = reasons.__setitem__
    cases = models.backbone_cases((64, 64), depth=14, backends=backends, skip=skip)
    names = ["ours, plain", "ours, plain, memory kept", "ours, eager", "ours, eager:bf16"]
    assert [case.model for case in cases][:4] == names
    assert asked == [("eager", "fp32"), ("openvino", "fp32"), ("eager", "bf16")]
    assert cases[0].flop == cases[2].flop > 1e8
    plain, eager = cases[0].run(), cases[2].run()
    torch.testing.assert_close(plain["res5"], eager["res5"])
    assert reasons["ours, openvino"] == "pip install 'resnest-d2[openvino]'"


def test_prediction_compares_the_same_results(monkeypatch, tmp_path):
    from benchmarking import prediction

    rng = np.random.default_rng(0)
    for i in range(3):
        image = rng.integers(0, 256, (20, 30, 3), np.uint8)
        cv2.imwrite(str(tmp_path / f"{i}.png"), image)
    config = load_config(QUICK.format("faster"), ["MODEL.DEVICE", "cpu"])
    register_datasets(config)
    config.INPUT.MIN_SIZE_TEST, config.TEST.DETECTIONS_PER_IMAGE = 64, 5
    torch.save({"model": build_model(config).state_dict()}, tmp_path / "model_final.pth")
    (tmp_path / "config.yaml").write_text(config.dump())
    theirs, ours = next(
        prediction.prediction_settings(
            str(tmp_path), str(tmp_path), number=2, backends=["eager"], skip=print
        )
    )
    assert ours.setting == {"backend": "eager", "images": 2}
    for one, other in zip(theirs.run(), ours.run(), strict=True):
        torch.testing.assert_close(one.scores, other.scores, atol=1e-5, rtol=0)
