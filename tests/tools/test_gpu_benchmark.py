"""The benchmark's cases on a GPU, on the CPU as far as it runs them; no statement on times."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

from benchmarking import report
from benchmarking.measure import Case, to_rows

MASK = "quick_schedules/mask_rcnn_ResNeSt_14_FPN_quick.yaml"


def test_forms_on_a_gpu_give_what_the_plain_one_gives():
    """On the CPU, which runs all but CUDA graphs."""
    from benchmarking import forms, gpu

    reasons = {}
    names = ["plain", "channels_last", "TF32", "eager", "TF32 graph"]
    options = {"batch": 2, "forms": names, "skip": reasons.__setitem__, "device": "cpu"}
    cases = gpu.backbone_cases((64, 96), depth=14, **options)
    ours = [case for case in cases if case.model.startswith("ours")]
    assert [case.model for case in ours] == [f"ours, {name}" for name in names[:4]]
    assert reasons["ours, TF32 graph"] == "CUDA graphs need a CUDA GPU"
    assert reasons["torchvision ResNet"] == "has no ResNet-14"
    ours[0].prepare()
    expected = ours[0].run()
    for case in ours[1:]:
        case.prepare()
        assert torch.backends.cudnn.allow_tf32 == ("TF32" in case.model)
        found = case.run()
        assert found["res5"].shape == (2, 2048, 2, 3)
        torch.testing.assert_close(found["res5"], expected["res5"], rtol=1e-3, atol=1e-4)
    assert ours[1].run()["res5"].is_contiguous(memory_format=torch.channels_last)
    assert all(case.flop == ours[0].flop > 1e8 for case in ours)
    forms.set_tf32(False)


def test_training_steps_on_a_gpu():
    from benchmarking import gpu

    cases = gpu.training_cases(
        (64, 96),
        depth=14,
        batch=2,
        checkpoint=["none", "block"],
        config=MASK,
        forms=["fp32", "bf16", "TF32 published attention"],
        device="cpu",
    )
    names = ["none, fp32", "none, bf16", "none, TF32 published attention"]
    assert [case.model for case in cases] == [*names, "block, fp32", "block, bf16"]
    model = cases[0].prepare.args[0]
    grads = []
    for case in cases[:3]:
        case.prepare()
        assert all(p.grad is None for p in model.parameters())
        case.run()
        grads.append(model.backbone.bottom_up.stem.conv1_1.weight.grad.clone())
    assert not torch.equal(grads[1], grads[0])
    torch.testing.assert_close(
        grads[2], grads[0], rtol=0.05, atol=0.05 * grads[0].abs().max().item()
    )


def test_matrix_products_in_each_precision(monkeypatch):
    from benchmarking import gpu

    monkeypatch.setitem(gpu.LIMIT_SIZE, "cpu", 32)
    cases = gpu.product_cases("cpu")
    assert [case.model for case in cases] == ["fp32", "tf32", "fp16", "bf16"]
    assert [case.run().dtype for case in cases][2:] == [torch.float16, torch.bfloat16]
    assert {case.flop for case in cases} == {2 * 32**3}


def test_peak_bytes_are_a_column_if_measured():
    rows = to_rows([Case("training", "none", {"batch": 2}, print, peak=3_000_000)], [[1.0]], [1.0])
    assert "peak MB" in report.table(rows) and report.table(rows).rstrip().endswith("3.0")
    rows[0]["peak"] = None
    assert "peak MB" not in report.table(rows)
    del rows[0]["peak"]  # of a file that an earlier version wrote
    assert "peak MB" not in report.table(rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--forms", "fp8"], "There is no form 'fp8'; choose from"),
        (["--what", "scoring"], "--device cuda measures backbone, detector, training; got --what"),
        ([], "--device cuda needs a CUDA GPU, and torch finds none"),
    ],
)
def test_what_a_gpu_cannot(options, message, tmp_path, capsys, monkeypatch):
    from benchmark import main

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["--device", "cuda", *options, "--output", str(tmp_path)]) == 1
    assert message in capsys.readouterr().err
