"""The script that runs the tests on a checkout of detectron2, with a checkout that is made up."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "test_on_detectron2.py"
TEST = """
import sys, detectron2
def test_it():
    print("tested", detectron2.NAME, sys.argv[1:])
"""


@pytest.fixture
def checkout(tmp_path):
    package = tmp_path / "checkout" / "detectron2"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("NAME = 'made up'\n")
    (tmp_path / "test_made_up.py").write_text(TEST)
    return package.parent


def run(*args):
    command = [sys.executable, str(SCRIPT), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("extension", ["with", "without"])
def test_runs_on_the_checkout_and_tells_of_the_extension(extension, checkout, tmp_path):
    if extension == "with":
        (checkout / "detectron2" / "_C.py").write_text("")
    test = str(tmp_path / "test_made_up.py")
    args = ["--", test, "-s", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    result = run(os.path.relpath(checkout), *args)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.startswith(
        f"detectron2 of {checkout}, {extension} its compiled extension _C\n"
    )
    assert f"tested made up ['{test}', '-s'" in result.stdout


def test_the_exit_code_is_that_of_pytest(checkout, tmp_path):
    assert run(checkout, "--", str(tmp_path / "nowhere.py")).returncode == 4


def test_a_path_without_detectron2(tmp_path, checkout):
    result = run(tmp_path)
    assert result.returncode == 2 and f"{tmp_path} has no detectron2/" in result.stderr
    (checkout / "detectron2" / "__init__.py").write_text("import no_such_package\n")
    result = run(checkout)
    assert result.returncode == 2 and "No module named 'no_such_package'" in result.stderr
