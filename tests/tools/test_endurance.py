import re
import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).parents[2] / "tools" / "endurance.py"


def test_prints_what_a_training_and_a_prediction_hold(tmp_path):
    options = ["--detector", "cascade", "--iterations", "5", "--images", "5"]
    done = subprocess.run(
        [sys.executable, TOOL, *options, "--output", tmp_path], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = re.findall(r"^\|" + r" +(\d+) \|" * 7 + "$", done.stdout, re.M)
    rows = [[int(v) for v in row] for row in found]
    assert [row[0] for row in rows] == [1, 2, 3, 4, 5] * 2
    assert all(megabytes > 50 and files > 2 for _, megabytes, _, files, *_ in rows)
