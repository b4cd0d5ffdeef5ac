"""How time and memory grow: slopes, cases, and the limits of a case; no statement on times."""

import json
import mmap
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

from benchmarking import growth, report
from benchmarking.growth_case import CASES, Task, forget_peak, measure, peak_bytes
from benchmarking.made_detections import MadeDetections
from benchmarking.made_run import METRICS, draw_number, write_run

from resnest_d2.data.coco import forget_datasets
from resnest_d2.data.validate import check_data


def row(name, size, seconds, grown, **more):
    bytes_ = {"baseline": 5e8, "peak": 5e8 + grown}
    return growth._row(name, size, {"seconds": seconds, **bytes_, **more})


def cells(table):
    """Columns of each line of a table, which are at least two spaces apart."""
    lines = table.splitlines()
    ends = [len(dashes) for dashes in lines[1].split("  ")]
    starts = np.cumsum([0, *(end + 2 for end in ends)])
    return [[line[a : a + n].strip() for a, n in zip(starts, ends, strict=False)] for line in lines]


def test_slopes():
    assert growth.slope(2.0, 20.0, 10) == pytest.approx(1)
    assert growth.slope(3.0, 12.0, 2) == pytest.approx(2)
    assert growth.slope(1.0, 1.0, 7) == 0
    assert growth.slope(None, 1.0, 2) is growth.slope(1.0, 0, 2) is None


def test_what_grows_too_fast_is_marked():
    rows = [
        row("load", 1000, 0.3, 100e6),
        row("load", 100, 9.0, 1e6),  # the later one counts
        row("load", 100, 0.03, 10e6),
        row("load", 10_000, 30.0, 20_000e6),
        row("report", 100, 0.0001, 1e6),
        row("report", 1000, 0.09, 49e6),  # too small for its slope to say anything
        row("side", 100, 1.0, 1e6),
        row("side", 200, 4.0, 4e6),  # as the number of pixels
    ]
    _, _, *lines = cells(growth.growth_table(rows))
    assert lines[0][:6] == ["load", "100 images", "0.03", "", "10", ""]
    assert lines[1] == ["load", "1,000 images", "0.30", "1.00", "100", "1.00", "500", ""]
    assert lines[2][3:6] == ["2.00", "20000", "2.30"]
    assert lines[2][7] == "time and memory: above n log n"
    assert [line[7] for line in lines[3:]] == [""] * 4
    assert lines[4][3] == "2.95" and lines[6][3] == "1.00"


def test_a_stopped_case_is_a_row():
    stopped = {"seconds": None, "baseline": None, "peak": 8e9, "stopped": "stopped at 8 GiB"}
    rows = [row("load", 10, 1.0, 1e8), growth._row("load", 100, stopped)]
    last = cells(growth.growth_table(rows))[-1]
    assert last == ["load", "100 images", "", "", "", "", "", "stopped at 8 GiB"]
    assert report.text(rows) == growth.growth_table(rows)  # no empty table of other rows


def test_made_images_differ(tmp_path):
    for number in (1, 70_000):
        draw_number(tmp_path / f"{number}.jpg", number, [])
    one, other = (cv2.imread(str(tmp_path / f"{n}.jpg")) for n in (1, 70_000))
    assert one.shape == other.shape == (360, 480, 3)
    assert (one != 0).any(axis=2).nonzero()[1].tolist() == [31]
    assert (one != other).any()


def test_made_detections_are_as_many_as_asked():
    model = MadeDetections(50)
    (found,) = model([{"image": torch.zeros(3, 320, 480), "height": 160, "width": 240}])
    found = found["instances"]
    assert len(found) == 50 and found.pred_masks.shape == (50, 160, 240)
    areas = found.pred_boxes.area()
    filled = found.pred_masks.sum(dim=(1, 2)) / areas
    assert (filled[areas > 400] - np.pi / 4).abs().max() < 0.1  # ellipses


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("growth") / "run"
    write_run(folder, images=6, classes=3, masks=True, draw=draw_number)
    (folder / "results.json").write_text(json.dumps({"made": {"bbox": METRICS, "segm": METRICS}}))
    yield folder
    forget_datasets(["made"])


@pytest.mark.parametrize("name", CASES)
def test_every_case_runs(name, made):
    size = 64 if name == "side" else 1
    repeats = 2 if name == "objects" else 1
    found = measure(Task(name, size, str(made), repeats=repeats))
    assert found["seconds"] > 0 and found["peak"] >= found["baseline"] > 1e8
    if name == "report":
        assert "class 2" in (made / "report.html").read_text()
    if name == "objects":
        assert len(json.loads((made / "predictions" / "predictions.json").read_text())) == 1


def test_made_data_have_no_faults(made):
    found = check_data([(str(made / "data.json"), str(made / "images"))], progress=False)
    assert [f for f in found.findings if f.severity != "note"] == []


def hold(size):
    """Memory of its own, which goes back to the system when it is closed."""
    held = mmap.mmap(-1, size)
    for _ in range(size // mmap.PAGESIZE):
        held.write(b"1" * mmap.PAGESIZE)
    return held


def test_peak_memory_is_what_was_held():
    size = 160 * 2**20
    held = hold(size)
    forget_peak()
    before = peak_bytes()
    held.close()
    assert before > size and abs(peak_bytes() - before) < 0.1 * size  # the kernel counts in batches
    forget_peak()
    if sys.platform == "linux":
        assert peak_bytes() < before - 0.9 * size
        hold(size).close()
        assert abs(peak_bytes() - before) < 0.1 * size


def test_limits_stop_a_case(tmp_path):
    task = Task("objects", 1, str(tmp_path))
    found = growth.run_alone(task, memory=2**20, limit=60)
    assert found["stopped"] == "stopped at 0.000976562 GiB" and found["peak"] > 2**20
    assert growth.run_alone(task, memory=1e12, limit=0)["stopped"] == "stopped after 0 minutes"


def test_the_command(tmp_path, capsys):
    from benchmark import main

    arguments = ["--what", "growth", "--growth-of", "load", "batch", "--repeats", "1"]
    arguments += ["--growth-images", "3", "6", "--growth-batch", "1", "2", "--threads", "1"]
    arguments += ["--growth-config", "no_such_config", "--output", str(tmp_path)]
    assert main(arguments) == 0
    rows = json.loads((tmp_path / "benchmark.json").read_text())
    assert [(r["model"], r["setting"]) for r in rows] == [
        ("load", {"images": 3}),
        ("load", {"images": 6}),
        ("batch", {"images in a step": 1}),
        ("batch", {"images in a step": 2}),
    ]
    assert all(r["seconds"] > 0 and r["peak"] >= r["baseline"] > 1e8 for r in rows[:2])
    assert rows[2]["stopped"].startswith("failed: ") and "no_such_config" in rows[2]["stopped"]
    assert rows[3]["stopped"] == f"not run: 1 {rows[2]['stopped']}"
    assert "6 images" in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "benchmark.json",
        "benchmark.png",
        "benchmark.txt",
    ]
