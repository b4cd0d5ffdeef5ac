"""The wheel: what is in it, and that it works where there is no checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import resnest_d2
from resnest_d2.model_zoo import list_configs, list_lazy_configs

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel's path."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    done = subprocess.run([*command, "-w", folder, ROOT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel):
    """A function that runs the installed command outside the checkout."""
    site = wheel.parent / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    (wheel.parent / "work").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(site), "FVCORE_CACHE": str(wheel.parent)}

    def run(*words):
        code = "from importlib.metadata import distribution as d; " + (
            "(e,) = [e for e in d('resnest-d2').entry_points if e.name == 'resnest-d2']; e.load()()"
        )
        return subprocess.run(
            [sys.executable, "-c", code, *words],
            cwd=wheel.parent / "work",
            env=environment,
            capture_output=True,
            text=True,
        )

    return run


def test_everything_is_in_it(wheel):
    with zipfile.ZipFile(wheel) as archive:
        files = set(archive.namelist())
    package = ROOT / "resnest_d2"
    ours = {p for p in package.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    assert {p.relative_to(ROOT).as_posix() for p in ours} <= files  # tables and templates too
    assert {f"resnest_d2/configs/{name}" for name in list_configs()} <= files
    assert "resnest_d2/configs/Base-ResNeSt-FPN.yaml" in files
    assert {f"resnest_d2/configs/lazy/{name}" for name in list_lazy_configs()} <= files
    assert "resnest_d2/configs/lazy/common/models/rcnn.py" in files
    assert {"resnest_d2_install_detectron2.py", "resnest_d2_command.py"} <= files
    assert not [name for name in files if name.startswith(("tests/", "docs/"))]


def test_the_command_works_from_outside(installed, wheel):
    listed = installed("list", "configs")
    assert listed.returncode == 0, listed.stderr
    assert "deprecated" not in listed.stderr  # torch's words to other packages
    assert [line.split()[0] for line in listed.stdout.splitlines()[2:] if line] == list_configs()
    checked = installed("doctor")
    assert f"resnest-d2 {resnest_d2.__version__}" in " ".join(checked.stdout.split())
    assert "timm" in checked.stdout.split("Extras")[1].split("Works")[0]
    assert checked.returncode == 0, checked.stderr
