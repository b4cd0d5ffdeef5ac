import importlib.util
import subprocess
import types
import zipfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "tools" / "install_detectron2.py"


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("install_detectron2", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def pip(monkeypatch):
    """pip, replaced: writes a wheel where it is told to, and keeps its command."""
    calls = []

    def run(command):
        calls.append(command)
        folder = Path(command[command.index("--dest") + 1])
        with zipfile.ZipFile(folder / "sal_detectron2-0.7.2.whl", "w") as wheel:
            for name in ("detectron2/__init__.py", "detectron2/_C.so", "tools/stray.py"):
                wheel.writestr(name, "")
        return types.SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", run)
    return calls


def test_an_installed_detectron2_is_used_as_it_is(script, capsys):
    assert script.main() == 0
    assert "used as it is" in capsys.readouterr().out


def test_another_file_is_refused(script, pip, tmp_path):
    with pytest.raises(RuntimeError, match="SHA-256 .* expected 491af0c7"):
        script.download(tmp_path)
    assert "sal-detectron2==0.7.2" in pip[0] and "--no-deps" in pip[0]


def test_only_the_python_part_is_unpacked(script, pip, tmp_path, monkeypatch):
    (tmp_path / "wheel").mkdir()
    site_packages = tmp_path / "site-packages"
    site_packages.mkdir()
    pip_run = subprocess.run
    pip_run(["--dest", str(tmp_path / "wheel")])
    script.unpack(next((tmp_path / "wheel").iterdir()), site_packages)
    files = {p.relative_to(site_packages).as_posix() for p in site_packages.rglob("*")}
    assert files == {"detectron2", "detectron2/__init__.py"}


def test_pip_failure_is_said(script, monkeypatch, tmp_path):
    failed = types.SimpleNamespace(returncode=1)
    monkeypatch.setattr(subprocess, "run", lambda command: failed)
    with pytest.raises(RuntimeError, match="could not download sal-detectron2"):
        script.download(tmp_path)
