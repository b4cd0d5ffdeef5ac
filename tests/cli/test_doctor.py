"""What doctor finds, and what it calls a problem."""

import re
from importlib import metadata

import pytest
import torchvision

from resnest_d2.cli import doctor as module
from resnest_d2.compat import detectron

REQUIREMENTS = ["torch>=2.1", "opencv-python-headless>=4.5", 'timm>=1.0 ; extra == "timm"']


@pytest.fixture
def installed(monkeypatch):
    """A function that sets what the package asks for and what is installed."""

    def install(requirements=REQUIREMENTS, **versions):
        def version(name):
            if name.replace("-", "_") not in versions:
                raise metadata.PackageNotFoundError(name)
            return versions[name.replace("-", "_")]

        class Extras:
            def get_all(self, field):
                return ["timm"] if field == "Provides-Extra" else None

        monkeypatch.setattr(module.metadata, "version", version)
        monkeypatch.setattr(module.metadata, "requires", lambda name: requirements)
        monkeypatch.setattr(module.metadata, "metadata", lambda name: Extras())

    return install


def test_all_is_well(installed, resnest_d2, weights_cache):
    installed(torch="2.3.0+cpu", opencv_python="4.9", resnest_d2="0.1.0")
    cached = weights_cache / "resnest_d2-v1" / "a-0123abcd.pth"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"0" * 2_500_000)
    done = resnest_d2("doctor")
    assert done.exit_code == 0, done.stderr
    rows = [line.split(None, 1) for line in done.stdout.splitlines() if line]
    rows = {row[0]: row[1].strip() for row in rows if len(row) == 2}
    assert rows["torch"] == "2.3.0+cpu" and rows["opencv-python-headless"] == "4.9"
    assert rows["timm"] == "no timm: pip install 'resnest-d2[timm]'"
    assert rows["a-0123abcd.pth"] == "2.5 MB" and "GiB free" in rows["memory"]
    assert re.search(r"^its instructions +(AVX2|AVX-512|unknown|[A-Z])", done.stdout, re.M)
    assert "threads" in rows["CPU"] and "1 files, 2.5 MB" in rows["cache"]
    assert "Nothing is missing." in done.stdout


def test_what_is_missing_or_too_old_is_named(installed, resnest_d2, weights_cache):
    installed(torch="2.0.1", resnest_d2="0.1.0")
    done = resnest_d2("doctor")
    assert done.exit_code == 1
    assert "torch>=2.1 is needed, found 2.0.1" in done.stderr
    assert "opencv-python-headless>=4.5 is needed, found None" in done.stderr
    assert "timm" not in done.stderr  # an extra


def test_a_broken_operator_is_named(installed, resnest_d2, weights_cache, monkeypatch):
    installed([])

    def broken(*args):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(torchvision.ops, "nms", broken)
    monkeypatch.setenv("RESNEST_D2_WEIGHTS", "nowhere/at/all")
    done = resnest_d2("doctor")
    assert done.exit_code == 1
    assert "NMS is broken (operator torchvision::nms does not exist)" in done.stderr
    assert "RESNEST_D2_WEIGHTS is nowhere/at/all" in done.stderr


def test_a_detectron2_that_differs_is_named(installed, resnest_d2, weights_cache, monkeypatch):
    installed([])
    place = "detectron2.modeling.roi_heads:CascadeROIHeads"
    monkeypatch.setitem(detectron.EXTENSION_POINTS, place, ("_run_phase",))
    monkeypatch.setitem(module._SEAMS, "batched_nms", lambda: False)
    done = resnest_d2("doctor")
    assert done.exit_code == 1
    assert f"differs from what resnest_d2 knows in {place}._run_phase, batched_nms" in done.stderr
