"""AP of exported files, and what is left in float32 while too much of it is lost."""

import math
from pathlib import Path

import pytest
import torch

from resnest_d2.deploy.export import ExportReport
from resnest_d2.deploy.export.quantizing import EXACT
from resnest_d2.engine import export_check
from resnest_d2.engine.export_check import checked


def metrics(box, mask):
    return {
        "bbox": {"AP": float(box), "AP-ant": float(box), "APl": math.nan},
        "segm": {"AP": float(mask)},
    }


@pytest.fixture
def scored(monkeypatch):
    """A detector with box AP 50 and mask AP 40, and files with what is asked for."""
    monkeypatch.setattr(export_check, "optimize_for_inference", lambda model: "detector")
    monkeypatch.setattr(export_check, "FileDetector", lambda path: "file")

    def run(*files, precision="int8"):
        written, results = [], iter(files)
        monkeypatch.setattr(
            export_check,
            "score",
            lambda data, model: metrics(50, 40) if model == "detector" else metrics(*next(results)),
        )

        def write(**options):
            written.append(options)
            return ExportReport(Path("x.xml"), ())

        report = checked(write, torch.nn.Identity(), None, precision=precision, max_drop=0.7)
        return report, written

    return run


def test_a_file_that_keeps_its_ap_is_written_once(scored):
    report, written = scored((49.5, 39.4))
    assert written == [{"exact": ""}] and report.drop == pytest.approx(0.6)
    lines = str(report).splitlines()
    assert lines[0] == "x.xml, against the detector:"
    assert lines[-3].split() == ["box", "AP", "50.00", "49.50", "-0.50"]
    assert lines[-2].split() == ["box", "AP-ant", "50.00", "49.50", "-0.50"]
    assert lines[-1].split() == ["mask", "AP", "40.00", "39.40", "-0.60"]


def test_more_stays_exact_while_too_much_is_lost(scored, caplog):
    report, written = scored((48, 40), (50, 39.2), (50.1, 39.9))
    assert [options["exact"] for options in written] == list(EXACT)
    assert [options.get("overwrite") for options in written] == [None, True, True]
    assert report.drop == pytest.approx(0.1)
    assert "x.xml loses 2.00 AP, over 0.7. Quantizing again" in caplog.text
    assert "x.xml loses 0.80 AP" in caplog.text


def test_a_loss_that_stays_is_told(scored, caplog):
    report, _ = scored((48, 40), (48, 40), (49, 40))
    assert report.drop == pytest.approx(1)
    assert "x.xml loses 1.00 AP, over 0.7." in caplog.text


def test_other_precisions_are_only_scored(scored):
    report, written = scored((40, 30), precision="fp16")
    assert len(written) == 1 and report.drop == pytest.approx(10)
    assert math.isnan(ExportReport(Path("x"), ()).drop)
