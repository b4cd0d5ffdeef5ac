"""The tool's table and its processes; no statement on times."""

import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

import busy_neighbour


def test_ratios_from_given_times():
    times = {
        ("none", "default"): [1.0, 2.0, 9.0],
        ("none", "passive"): [3.0],
        ("torch", "default"): [40.0],
        ("torch", "passive"): [6.0],
    }
    rows = [
        {"action": "folder", "neighbour": neighbour, "waiting": waiting, "seconds": seconds}
        for (neighbour, waiting), seconds in times.items()
    ]
    lines = [line.split("|")[2:-1] for line in busy_neighbour.table(rows).splitlines()[2:]]
    assert [[cell.strip() for cell in line] for line in lines] == [
        ["none", "default", "2.000", "1.000-9.000", "1.00", "1.00"],
        ["none", "passive", "3.000", "3.000-3.000", "1.00", "1.50"],
        ["torch", "default", "40.000", "40.000-40.000", "20.00", "1.00"],
        ["torch", "passive", "6.000", "6.000-6.000", "2.00", "0.15"],
    ]


def test_a_process_has_the_variables_of_its_way_alone(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    code = "import os; print([os.environ.get(n) for n in ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT')])"
    pipe = {"stdout": subprocess.PIPE, "text": True}
    for waiting, seen in {
        "default": "[None, None]",
        "passive": "['PASSIVE', None]",
        "1000": "[None, '1000']",
    }.items():
        variables = busy_neighbour.environment(waiting)
        process = busy_neighbour.start(["-c", code], variables, **pipe)
        assert process.communicate()[0] == f"{seen}\n"


def test_every_action_is_timed_beside_every_neighbour(tmp_path):
    options = ["--waiting", "passive", "--size", "64", "96", "--batch", "1", "--repeats", "1"]
    options += ["--threads", "1", "--output", tmp_path / "a.json"]
    options += ["--config", "quick_schedules/mask_rcnn_ResNeSt_14_FPN_shapes.yaml"]
    done = subprocess.run(
        [sys.executable, busy_neighbour.__file__, *options], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "a.json").read_text())
    assert [(row["action"], row["neighbour"]) for row in rows] == [
        (action, neighbour)
        for neighbour in ("none", "Python loop", "torch")
        for action in ("training step", "one image", "folder")
    ]
    assert all(len(row["seconds"]) == 1 and row["seconds"][0] > 0 for row in rows)
    assert len(done.stdout.splitlines()) == 2 + len(rows)
